"""Names of containers, networks and volumes: the build's own ones, which the engine has below a prefix. Pure.

So two builds can both have a `db`. What the build is shown is without the prefix (`Exchange.answer`, `lines`). No other
build's prefix is the beginning of it, as a build's id has no dot.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.errors import InvalidRequest
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

_PATTERN = re.compile(r"(?:[\w./^$*+?|()\[\]-]|\\[^pP\w]|\\[dDwWsSbB]){0,200}", re.ASCII)
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,200}")


def prefix(build: str) -> str:
    """What the engine has before each name of this build."""
    return f"sibling-gate-{build}."


def check(kind: str, name: str) -> str:
    """The name, if such a thing can have it. Raises InvalidRequest."""
    least = 2 if kind == "container" else 1  # as the engine has it
    if not NAME.fullmatch(name) or len(name) < least:
        raise InvalidRequest(
            f"Invalid {kind} name ({name[:300]}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, {least} to 201 characters"
        )
    return name


def patterns(asked: Collection[str], before: str) -> list[str]:
    """Filters by name, which are Go's regular expressions on any part of it, as ones of the engine's names.

    Raises Refused for one that may take much memory: `{1000}` is what it repeats, written out as often.
    """
    for each in asked:
        if not _PATTERN.fullmatch(each):
            raise Refused(
                "query", f"the filter name={each[:100]!r}: up to 200 of letters, digits and _./^$*+?|()[]\\- are taken"
            )
    quoted = before.replace(".", r"\.")
    return [
        f"^{quoted}(?:{each.lstrip('^').removeprefix('/')})" if each[:1] in ("^", "/") else f"^{quoted}.*(?:{each})"
        for each in asked
    ]


async def lines(
    pieces: AsyncIterator[bytes], before: str, shown: Callable[[bytes], bytes] = lambda line: line
) -> AsyncIterator[bytes]:
    """A stream of JSON, a line each, as it is shown. `shown` may change a line, or leave it out by giving nothing."""
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in map(shown, filter(None, whole)):
            if line:
                yield line.replace(before.encode(), b"") + b"\n"
    if rest:
        yield shown(rest).replace(before.encode(), b"")
