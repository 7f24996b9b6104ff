"""Which paths artifact globs name. Pure; serves `artifacts`.

A path is matched name by name from the top, by the set of places that it may have reached in each glob. So a folder
that can hold no match is passed by, and no glob takes more time than its length times the path's.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, NamedTuple

from agent.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ANY_DEPTH = "**"


class Reached(NamedTuple):
    """A place in a glob: which glob, and how many of its parts were met."""

    glob: int
    parts: int


class Globs:
    """`*`, `?` and `[...]` within a name, `**` for any number of folders; a folder that matches brings all below it."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises InvalidRequest for a pattern that leads out of the workspace."""
        self._globs = [[_part(part) for part in parse(pattern)] for pattern in patterns]

    def start(self) -> frozenset[Reached]:
        """What the top folder has reached."""
        return self._with_skipped(Reached(glob, 0) for glob in range(len(self._globs)))

    def step(self, reached: frozenset[Reached], name: str) -> frozenset[Reached]:
        """What `name` reaches in a folder that reached so much; nothing if neither it nor anything below can match."""
        return self._with_skipped(after for at in reached if (after := self._after(at, name)) is not None)

    def matches(self, reached: frozenset[Reached]) -> set[int]:
        """The indices of the globs that name a path that has reached so much."""
        return {at.glob for at in reached if at.parts == len(self._globs[at.glob])}

    def _after(self, at: Reached, name: str) -> Reached | None:
        glob = self._globs[at.glob]
        if at.parts == len(glob):
            return at  # below a folder that matched
        part = glob[at.parts]
        if part is None:
            return at
        return Reached(at.glob, at.parts + 1) if part.match(name) else None

    def _with_skipped(self, reached: Iterable[Reached]) -> frozenset[Reached]:
        """And what comes after a `**`, which may stand for no folder at all."""
        found = set(reached)
        waiting = list(found)
        while waiting:
            glob, parts = waiting.pop()
            if parts < len(self._globs[glob]) and self._globs[glob][parts] is None:
                after = Reached(glob, parts + 1)
                if after not in found:
                    found.add(after)
                    waiting.append(after)
        return frozenset(found)


def parse(pattern: str) -> list[str]:
    """A glob's parts. Raises InvalidRequest if it leads out of the workspace."""
    parts = [part for part in pattern.split("/") if part not in {"", "."}]
    if pattern.startswith("/") or ".." in parts:
        raise InvalidRequest(
            f"artifacts: {pattern!r} leads out of the workspace; write a glob relative to it, without '..'"
        )
    if pattern.endswith("/") or parts[-1:] == [_ANY_DEPTH]:
        parts.append("*")  # what is in the folder, not a file of that name
    return parts


def _part(part: str) -> re.Pattern[str] | None:
    return None if part == _ANY_DEPTH else re.compile(fnmatch.translate(part))
