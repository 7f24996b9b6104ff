"""What a tar's members would make, and which of them are refused: paths, links and kinds that are dangerous. Pure.

Serves `archive`. Every refusal names the member.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.errors import InvalidArchive
from agent.files.tar import Kind, Member

MAX_PATH = 4096  # bytes; Linux takes no longer path in one call (PATH_MAX)
MAX_NAME = 255  # bytes; the longest name that Linux' file systems hold (NAME_MAX)


@dataclass(slots=True)
class Folder:
    """A folder of the archive as far as it was read: what is in it, and its own mode and time if a member told them."""

    entries: dict[str, Folder | Kind] = field(default_factory=dict)
    mode: int = 0o755
    mtime: float | None = None

    def folder(self, name: str) -> Folder | None:
        """The folder of that name in it, or None."""
        there = self.entries.get(name)
        return there if isinstance(there, Folder) else None


class Place(NamedTuple):
    """Where a member belongs: the folders from the top down, and its name there."""

    above: list[str]
    name: str
    taken: bool  # by a file or link of the same archive, which the new member replaces as in `tar`


class Plan:
    """Where the members belong. Refuses what is dangerous by what is there so far, before anything is done."""

    def __init__(self, most: int) -> None:
        self.root = Folder()
        self.count = 0
        self._most = most

    def add(self, member: Member) -> Place | None:
        """The member's place, or None for the top folder itself. Raises InvalidArchive."""
        self._count()
        names = names_of(member.name, member)
        if not names and member.kind is Kind.FOLDER:
            return None
        _check_kind(member, names)
        *above, name = names
        folder = self._enter(above, member)
        there = folder.entries.get(name)
        if member.kind is Kind.FOLDER:
            made = there if isinstance(there, Folder) else Folder()
            made.mode, made.mtime = member.mode, member.mtime
            folder.entries[name] = made
        elif isinstance(there, Folder):
            raise _refused(member, "would take the place of a folder")
        else:
            self._check_link(member, names)
            folder.entries[name] = Kind.SYMLINK if member.kind is Kind.SYMLINK else Kind.FILE
        return Place(above, name, taken=isinstance(there, Kind))

    def _count(self) -> None:
        self.count += 1
        if self.count > self._most:
            raise InvalidArchive(f"the archive has more than {self._most} entries, which is sources.max_files")

    def _enter(self, names: list[str], member: Member) -> Folder:
        """The folder of that place, made if no member told of it."""
        here = self.root
        for name in names:
            there = here.entries.get(name)
            if there is None:
                self._count()
                there = here.entries[name] = Folder()
            elif isinstance(there, Kind):
                raise _refused(member, f"is below {name!r}, which is a {there} in the same archive")
            here = there
        return here

    def _check_link(self, member: Member, names: list[str]) -> None:
        if member.kind is Kind.SYMLINK:
            _check_target(member, depth=len(names) - 1)
        elif member.kind is Kind.HARD_LINK:
            target = names_of(member.target, member)
            if target == names or not self._is_file(target):
                raise _refused(member, f"is a hard link to {_short(member.target)}, which is no file before it")

    def _is_file(self, names: list[str]) -> bool:
        here: Folder | Kind | None = self.root
        for name in names:
            here = here.entries.get(name) if isinstance(here, Folder) else None
        return here is Kind.FILE


def names_of(path: str, member: Member) -> list[str]:
    """A path's names from the top folder down. Raises InvalidArchive if it leads elsewhere or nowhere."""
    if path.startswith("/"):
        raise _refused(member, "has an absolute path; paths must be relative")
    names = [name for name in path.split("/") if name not in {"", "."}]
    if ".." in names:
        raise _refused(member, "has '..' in its path")
    if "\0" in path:
        raise _refused(member, "has a NUL byte in its path")
    if len(os.fsencode(path)) > MAX_PATH or any(len(os.fsencode(name)) > MAX_NAME for name in names):
        raise _refused(member, f"has a path over {MAX_PATH} bytes, or a name over {MAX_NAME}")
    return names


def _check_kind(member: Member, names: list[str]) -> None:
    if member.kind is Kind.SPARSE:
        raise _refused(member, "is a sparse file; make the archive without them (tar without --sparse)")
    if member.kind not in {Kind.FILE, Kind.FOLDER, Kind.SYMLINK, Kind.HARD_LINK}:
        raise _refused(member, f"is a {member.kind}; only files, folders and links are allowed")
    if not names:
        raise _refused(member, f"is a {member.kind} without a name")


def _check_target(member: Member, depth: int) -> None:
    """A symbolic link stays inside if it goes up at its start only: from there on every link it meets stays inside too.

    After a name, `..` goes up from wherever that name leads, if it is a link itself.
    """
    names = [name for name in member.target.split("/") if name not in {"", "."}]
    up = len(list(itertools.takewhile(lambda name: name == "..", names)))
    if not member.target or "\0" in member.target or len(os.fsencode(member.target)) >= MAX_PATH:
        raise _refused(member, "is a symbolic link whose target is empty, too long or has a NUL byte")
    if member.target.startswith("/") or up > depth:
        raise _refused(member, f"is a symbolic link out of the tree, to {_short(member.target)}")
    if ".." in names[up:]:
        raise _refused(member, f"is a symbolic link to {_short(member.target)}; '..' is allowed at its start only")


def _refused(member: Member, why: str) -> InvalidArchive:
    return InvalidArchive(f"the archive is refused: {_short(member.name)} {why}")


def _short(name: str) -> str:
    return repr(name if len(name) <= 200 else name[:200] + "...")
