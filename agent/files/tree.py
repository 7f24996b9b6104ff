"""Trees of folders that a stranger filled: walked, opened and emptied without following a link, at any depth.

Everything goes through descriptors of open folders, one name at a time: no path is ever too long, and no name below an
open folder leads out of it. Serves `archive`, `workspace` and `artifacts`.
"""

from __future__ import annotations

import errno
import itertools
import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from agent.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

T = TypeVar("T")

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def child(folder: Path, name: str) -> Path:
    """The path of `name` in `folder`. Raises NotFound if it is not a plain name, such as one with a `/`."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise NotFound(f"there is no {name!r}: that is not a name")
    return folder / name


@contextmanager
def opened(folder: str | Path, *, at: int | None = None) -> Iterator[int]:
    """A descriptor of a folder, by its path or by its name in the open folder `at`. Raises OSError, also for a link."""
    here = os.open(folder, _FOLDER, dir_fd=at)
    try:
        yield here
    finally:
        os.close(here)


@contextmanager
def below(top: int, names: Iterable[str], *, make: int | None = None) -> Iterator[int]:
    """A descriptor of the folder that `names` lead to from an open one; with `make`, missing ones get that mode."""
    here = os.dup(top)
    try:
        for name in names:
            if make is not None:
                with suppress(FileExistsError):
                    os.mkdir(name, make, dir_fd=here)
            here = _move(here, name)
        yield here
    finally:
        os.close(here)


def walk(top: int, at: T, enter: Callable[[T, str], T | None]) -> Iterator[tuple[int, T, os.DirEntry[str]]]:
    """Every entry below an open folder, with its own folder's descriptor and what the caller knows of that folder.

    `at` is what the caller knows of `top`; `enter(at, name)` is what it knows of a folder in it, or None to pass it by.
    The tree must keep its shape meanwhile. One descriptor is open at a time, and only names of folders wait in memory.
    """
    here, above = os.dup(top), []
    try:
        while True:
            waiting: list[tuple[str, T]] = []
            with os.scandir(here) as entries:
                for entry in entries:
                    yield here, at, entry
                    if entry.is_dir(follow_symlinks=False) and (known := enter(at, entry.name)) is not None:
                        waiting.append((entry.name, known))
            above.append((_identity(here), waiting))
            while not above[-1][1]:
                above.pop()
                if not above:
                    return
                here = _move(here, "..")
                _expect(here, above[-1][0])
            name, at = above[-1][1].pop()
            here = _move(here, name)
    finally:
        os.close(here)


def empty(top: int) -> None:
    """Remove all that is in an open folder, at any depth, in memory that does not grow with it.

    It goes level by level: the folders of one level move into a folder of their own right below `top`, so that a
    removal that was killed leaves nothing elsewhere, and the next one goes on.
    """
    level = _new_level(top)
    with opened(level, at=top) as into:
        _strip(top, into, itertools.count(), keep=level)
    while not _is_empty(level, top):
        deeper = _new_level(top)
        with opened(level, at=top) as folders, opened(deeper, at=top) as into:
            _strip_each(folders, into)
        os.rmdir(level, dir_fd=top)
        level = deeper
    os.rmdir(level, dir_fd=top)


def afresh(folder: Path) -> None:
    """Have an empty folder that is the service's alone: what an earlier life of it left is of no use."""
    folder.mkdir(mode=0o700, exist_ok=True)
    with opened(folder) as top:
        empty(top)


def remove(folder: Path) -> None:
    """Remove a folder and all in it, or the link or file in its place. Does nothing if it is not there."""
    with opened(folder.parent) as parent:
        try:
            _unlock(folder.name, parent)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            os.unlink(folder.name, dir_fd=parent)
            return
        with opened(folder.name, at=parent) as top:
            empty(top)
        os.rmdir(folder.name, dir_fd=parent)


def handle(name: str, *, at: int, flags: int = 0) -> int:
    """A descriptor that stands for an entry of an open folder and neither reads it nor follows it; see `path`."""
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | flags, dir_fd=at)


def path(descriptor: int) -> str:
    """What an open descriptor stands for, as a path for calls that take no descriptor of that kind, such as chmod."""
    return f"/proc/self/fd/{descriptor}"


def _move(here: int, name: str) -> int:
    there = os.open(name, _FOLDER, dir_fd=here)
    os.close(here)
    return there


def _identity(folder: int) -> tuple[int, int]:
    status = os.fstat(folder)
    return status.st_dev, status.st_ino


def _expect(folder: int, identity: tuple[int, int]) -> None:
    if _identity(folder) != identity:
        raise OSError(errno.ESTALE, "a folder was moved while it was being read")


def _new_level(top: int) -> str:
    name = f"removed-{secrets.token_hex(16)}"
    os.mkdir(name, 0o700, dir_fd=top)
    return name


def _strip(folder: int, into: int, numbers: Iterator[int], keep: str | None = None) -> None:
    """Remove a folder's entries, but move its folders into another one, under a number each."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == keep:
                continue
            if entry.is_dir(follow_symlinks=False):
                _unlock(entry.name, folder)
                os.rename(entry.name, str(next(numbers)), src_dir_fd=folder, dst_dir_fd=into)
            else:
                os.unlink(entry.name, dir_fd=folder)


def _strip_each(folders: int, into: int) -> None:
    numbers = itertools.count()
    with os.scandir(folders) as entries:
        for entry in entries:
            with opened(entry.name, at=folders) as folder:
                _strip(folder, into, numbers)
            os.rmdir(entry.name, dir_fd=folders)


def _unlock(name: str, folder: int) -> None:
    """Let its owner into a folder that a build made read-only: the service may be that owner, and not root."""
    held = handle(name, at=folder, flags=os.O_DIRECTORY)
    try:
        os.chmod(path(held), 0o700)  # noqa: PTH101 - by descriptor
    finally:
        os.close(held)


def _is_empty(name: str, folder: int) -> bool:
    with opened(name, at=folder) as here, os.scandir(here) as entries:
        return next(entries, None) is None
