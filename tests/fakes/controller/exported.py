"""What Jenkins' `/api/json` shows of an object: by `depth=`, or by `tree=`.

Every property has a visibility; going down into an object raises the bar by one, unless the property is inlined. So a
job in a queue item shows its name, and only at `depth=1` whether it is buildable. `tree=` asks for properties by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable

ALWAYS = 999  # shown at whatever depth, as Jenkins itself writes it


class BadTree(Exception):
    """`tree=` that cannot be read."""


class Pruner(Protocol):
    def below(self, name: str, visibility: int, *, inline: bool) -> Pruner | None:
        """How to go on below a property, or None if it is not shown."""

    def part(self, items: list[Any]) -> list[Any]:
        """Those members of a list that are shown."""


@dataclass(frozen=True)
class ByDepth:
    least: int

    def below(self, name: str, visibility: int, *, inline: bool) -> Pruner | None:
        if visibility < self.least:
            return None
        return self if inline else ByDepth(self.least + 1)

    def part(self, items: list[Any]) -> list[Any]:
        return items


@dataclass(frozen=True)
class ByName:
    children: dict[str, ByName] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None

    def below(self, name: str, visibility: int, *, inline: bool) -> Pruner | None:
        return self.children.get(name) or self.children.get("*")

    def part(self, items: list[Any]) -> list[Any]:
        return items[self.first : self.last]


class Bean:
    """An object with its properties. A value may be a function, called only if it is shown: some hold each other."""

    def __init__(self, kind: str | None = None, visibility: int = 1) -> None:
        self.kind = kind
        self.visibility = visibility
        self.properties: list[tuple[str, Any, int, bool]] = []

    def put(self, visibility: int | None = None, *, inline: bool = False, **values: Any) -> Self:
        level = self.visibility if visibility is None else visibility
        self.properties += [(name, value, level, inline) for name, value in values.items()]
        return self

    def shown(self, pruner: Pruner) -> dict[str, Any]:
        answer: dict[str, Any] = {} if self.kind is None else {"_class": self.kind}
        for name, value, visibility, inline in self.properties:
            below = pruner.below(name, visibility, inline=inline)
            if below is not None:
                answer[name] = _shown(value, below)
        return answer


def _shown(value: Any, pruner: Pruner) -> Any:
    if callable(value):
        value = value()
    if isinstance(value, Bean):
        return value.shown(pruner)
    if isinstance(value, list):
        return [_shown(item, pruner) for item in pruner.part(value)]
    return value


def lazily(make: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """`make(*arguments)`, when it is shown."""
    return lambda: make(*arguments)


def pruner_of(tree: str | None, depth: str | None) -> Pruner:
    if tree:
        return parse_tree(tree)
    return ByDepth(1 - int(depth or 0))


_TOKEN = re.compile(r"\s*([\[\],]|\{[^}]*\}|[^\s\[\],{}]+)")


def parse_tree(text: str) -> ByName:
    """Read `a,b[c,d[*]]{0,5}`."""
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"\s", "", text):
        raise BadTree(text)
    children = _members(tokens)
    if tokens:
        raise BadTree(text)
    return ByName(children)


def _members(tokens: list[str]) -> dict[str, ByName]:
    members: dict[str, ByName] = {}
    while tokens and tokens[0] != "]":
        name = tokens.pop(0)
        if name in "[,":
            raise BadTree(name)
        members[name] = _member(tokens)
        if tokens and tokens[0] == ",":
            tokens.pop(0)
    return members


def _member(tokens: list[str]) -> ByName:
    children: dict[str, ByName] = {}
    if tokens and tokens[0] == "[":
        tokens.pop(0)
        children = _members(tokens)
        if not tokens:
            raise BadTree("a bracket is not closed")
        tokens.pop(0)
    first = last = None
    if tokens and tokens[0].startswith("{"):
        first, last = _range(tokens.pop(0)[1:-1])
    return ByName(children, first, last)


def _range(text: str) -> tuple[int | None, int | None]:
    """`{5}` is the sixth, `{2,5}` the third to the fifth, `{,5}` the first five."""
    start, comma, end = text.partition(",")
    if not comma:
        return int(start), int(start) + 1
    return int(start) if start else None, int(end) if end else None
