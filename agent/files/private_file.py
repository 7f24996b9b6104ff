"""Small files of the service alone, such as keys: made once, whole, durable, and unreadable for others."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def keep_private(path: Path, make: Callable[[], str]) -> bytes:
    """The file's content; made by `make` if it is not there yet. Safe against a crash and two makers at once."""
    if not path.exists():
        write_private(path, make(), replace=False)
    return path.read_bytes()


def write_private(path: Path, text: str, *, replace: bool = True) -> None:
    """Write it whole or not at all, mode 0600, and on the disk when this returns; or keep one that is there."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            Path(name).replace(path)
        elif not path.exists():
            _link(name, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        Path(name).unlink(missing_ok=True)


def _link(name: str, path: Path) -> None:
    try:
        os.link(name, path)
    except FileExistsError:
        return  # another maker was faster; its content counts
