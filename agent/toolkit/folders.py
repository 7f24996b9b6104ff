"""Folders of the data volume that are named after their content, which containers get to read.

Each is made whole under another name and then renamed: one that is there is complete, whenever the service was killed.
What a killed maker left is removed by the next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agent.files import tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARENT = "toolkit"
_UNFINISHED = "tmp"


def digest(*parts: bytes) -> str:
    """The name of a folder that is made from these."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def have(data_dir: Path, name: str, fill: Callable[[Path], None]) -> str:
    """The path, below the data folder, of the folder with that name; `fill` makes its content if it is not there.

    Everyone may read it. One is made at a time, by whatever thread or process. Raises OSError, and what `fill` raises.
    """
    folder = data_dir / PARENT / name
    if not folder.exists():
        with making(data_dir) as made:
            if not folder.exists():
                fill(made)
                _settle(made)
                made.rename(folder)
    return f"{PARENT}/{name}"


@contextmanager
def making(data_dir: Path) -> Iterator[Path]:
    """A new folder beside the finished ones, for the only maker at that time; what is left of it then is removed."""
    parent = data_dir / PARENT
    parent.mkdir(mode=0o755, exist_ok=True)
    with alone(parent):
        for left in parent.glob(f"{_UNFINISHED}*"):
            with suppress(OSError):  # a program that a killed maker had started may still write there; the next one can
                tree.remove(left)
        made = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=parent))
        try:
            yield made
        finally:
            tree.remove(made)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no one else holds this folder, then hold it. A killed holder lets go."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def add(content: Path, into: Path) -> None:
    """Put all of another such folder into one that is being made, without a copy: both are on one volume.

    Hard links are safe here alone, since no container may write to any of these folders.
    """
    shutil.copytree(content, into, symlinks=True, copy_function=os.link, dirs_exist_ok=True)


def _settle(folder: Path) -> None:
    """Let everyone read it, and have it on the disk: after a power cut it is whole or not there at all."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        held = os.open(path, os.O_RDONLY)
        try:
            executable = path.is_dir() or os.fstat(held).st_mode & 0o100
            os.fchmod(held, 0o755 if executable else 0o644)
            os.fsync(held)
        finally:
            os.close(held)
