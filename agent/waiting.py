"""What a queue item waits for, as far as Jenkins' `why` tells. Pure.

The REST API has no label of an item, but for a freestyle job's. The texts are those of core's `Messages.properties`,
asked for in English and seen on a 2.541 controller; names come in typographic quotes, before 2018 in none. With exactly
one node of the label Jenkins names that node instead, and on a controller without nodes it names nothing at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.labels import Atom, Expression, parse_assigned, parse_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.controller import Computer

_NOT_YET = re.compile(
    r"In the quiet period\b|Finished waiting\Z|Jenkins is about to shut down\b|Blocked by |"
    r"A build is already in progress\Z|Build #\d+ is already in progress\b|"
    r"(?:Up|Down)stream project .* is already building\.?\Z",
    re.DOTALL,
)
_LABEL = re.compile(r"(?:There are no nodes with the label|(All nodes of label)) (.*)(?(1) are offline)", re.DOTALL)
_BUSY = re.compile(r"Waiting for next available executor on (.*)", re.DOTALL)
# Where idle nodes refuse, each says why, in any order. Those that lack the label say so, and name it.
_LACKING = re.compile(
    "(?:\\A|; )[^;]* doesn['\u2019]t have label (?:(\u2018)|('))?(?P<label>.*?)(?(1)\u2019)(?(2)')(?=; |\\Z)", re.DOTALL
)
_REFUSING = re.compile(r"(.*) is (?:offline|not accepting tasks)")  # a node's name holds no line end and no `;`
_QUOTES = ("\u2018\u2019", "''")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A node that `expression` matches would let the item run; None says that Jenkins did not tell which.

    `node` is the one node that Jenkins named in place of a label. Its only label besides its name is then taken for the
    expression, or its name if it has none; with several, any could be meant, and `expression` is None.
    """

    expression: Expression | None = None
    node: str | None = None


NOTHING: Final = Wanted()


def wanted(why: str, label_expression: str | None, computers: Sequence[Computer]) -> Wanted:
    """What an item waits for: NOTHING if no node would help it now, or if it cannot be told.

    A freestyle job's `label_expression` says more than any `why`.
    """
    if _NOT_YET.match(why):
        return NOTHING
    if label_expression:
        return Wanted(parse_assigned(label_expression))
    return _named_label(why, computers) or _named_nodes(why, computers)


def _named_label(why: str, computers: Sequence[Computer]) -> Wanted | None:
    if match := _LABEL.fullmatch(why):
        return Wanted(parse_name(_bare(match[2])))
    if match := _BUSY.fullmatch(why):
        name = _bare(match[1])
        # A label of more than one node is told by its name, even if one of them is called like it.
        alone = [computer.name for computer in computers if name in computer.labels] == [name]
        return _of_nodes({name}, computers) if alone else Wanted(parse_name(name))
    if match := _LACKING.search(why):
        return Wanted(parse_name(match["label"]))
    return None


def _named_nodes(why: str, computers: Sequence[Computer]) -> Wanted:
    known = {computer.name for computer in computers}
    refusing = {_bare(match[1]) for part in why.split("; ") if (match := _REFUSING.fullmatch(part))}
    return _of_nodes(refusing & known, computers)


def _of_nodes(names: set[str], computers: Sequence[Computer]) -> Wanted:
    """What an item wants if these nodes have its label and no other has."""
    labels = [computer.labels for computer in computers if computer.name in names]
    if not labels:
        return NOTHING
    node = next(iter(names)) if len(names) == 1 else None
    shared = frozenset.intersection(*labels) - names or ({node} if node else frozenset())
    return Wanted(Atom(next(iter(shared))) if len(shared) == 1 else None, node)


def _bare(text: str) -> str:
    return text[1:-1] if text[:1] + text[-1:] in _QUOTES and len(text) > 1 else text
