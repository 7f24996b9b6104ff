"""The files in a workspace that artifact globs name, whatever a build left there. Serves `artifacts`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from agent.builds import Artifact
from agent.errors import AgentError
from agent.files import tree
from agent.files.globs import Globs, Reached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Bytes of an artifact's path. Linux takes 4096 in one call (PATH_MAX), of which the data folder's own path needs some.
MAX_PATH = 4096 - 512
MAX_NOTES = 20


class _Folder(NamedTuple):
    path: str  # below the workspace, with a `/` at its end; nothing for the workspace itself
    reached: frozenset[Reached]


def files(top: int, patterns: Sequence[str], max_seen: int, note: Callable[[str], None]) -> Iterator[Artifact]:
    """The files below an open folder that match.

    `note` is told what matches but cannot be kept, and which globs match nothing. Raises AgentError if more than
    `max_seen` entries would have to be looked at, and OSError.
    """
    search = _Search(Globs(patterns), note)
    start = _Folder("", search.globs.start())
    for seen, (_, folder, entry) in enumerate(tree.walk(top, start, search.enter), 1):
        if seen > max_seen:
            raise AgentError(f"artifacts were looked for among {max_seen} files; name their folder in the globs")
        if search.wants(folder, entry):
            yield Artifact(path=folder.path + entry.name, size=entry.stat(follow_symlinks=False).st_size)
    if search.left_out > MAX_NOTES:
        note(f"not kept: {search.left_out - MAX_NOTES} more")
    for index, pattern in enumerate(patterns):
        if index not in search.met:
            note(f"no artifact matches {pattern!r}")


class _Search:
    """What one look through a workspace has met so far: which globs, and how much that cannot be kept."""

    def __init__(self, globs: Globs, note: Callable[[str], None]) -> None:
        self.globs = globs
        self.met: set[int] = set()
        self.left_out = 0
        self._note = note

    def enter(self, folder: _Folder, name: str) -> _Folder | None:
        """The folder of that name, or None if nothing in it can match."""
        path, reached = folder.path + name, self.globs.step(folder.reached, name)
        if not reached:
            return None
        if len(os.fsencode(path)) > MAX_PATH:
            self._leave_out(f"what is below {path[:100]!r}..., a path of over {MAX_PATH} bytes")
            return None
        return _Folder(f"{path}/", reached)

    def wants(self, folder: _Folder, entry: os.DirEntry[str]) -> bool:
        """Whether it is a file to be kept."""
        if entry.is_dir(follow_symlinks=False):
            return False
        met = self.globs.matches(self.globs.step(folder.reached, entry.name))
        if not met:
            return False
        path = folder.path + entry.name
        if why := _unfit(entry, path):
            self._leave_out(f"{path[:1000]!r}, which is {why}")
            return False
        self.met |= met
        return True

    def _leave_out(self, what: str) -> None:
        self.left_out += 1
        if self.left_out <= MAX_NOTES:
            self._note(f"not kept: {what}")


def _unfit(entry: os.DirEntry[str], path: str) -> str | None:
    if entry.is_symlink():
        return "a symbolic link"
    if not entry.is_file(follow_symlinks=False):
        return "no file"
    if len(os.fsencode(path)) > MAX_PATH:
        return f"a path of over {MAX_PATH} bytes"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "no UTF-8 name"
    return None
