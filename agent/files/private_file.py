"""Small files of the service alone, such as keys: made once, whole, durable, and unreadable for others."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import InvalidSettings

if TYPE_CHECKING:
    from collections.abc import Callable


def keep_private(path: Path, make: Callable[[], str]) -> bytes:
    """The file's content; made by `make` if it is not there yet. Safe against a crash and two makers at once."""
    if not path.exists():
        write_private(path, make(), replace=False)
    return path.read_bytes()


def read_private(path: Path) -> str:
    """The file's text. Raises InvalidSettings if others can use it, and OSError."""
    with path.open(encoding="utf-8", errors="replace") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        if mode & 0o077:
            raise InvalidSettings(f"Others can use {path}, mode {mode:04o}; run `chmod 600 {path}`.")
        return file.read()


def read_secret(setting: str, path: Path) -> str:
    """The secret that the file holds, without line ends around it. Raises InvalidSettings, which names the setting."""
    try:
        secret = read_private(path).strip("\r\n")
    except OSError as error:
        raise InvalidSettings(
            f"{setting}, {path}, cannot be read: {error.strerror}; it must be a file that the service's user can read"
        ) from error
    except InvalidSettings as error:
        raise InvalidSettings(f"{setting}: {error}") from error
    if not secret:
        raise InvalidSettings(f"{setting}, {path}, is empty; put the secret into it")
    return secret


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
