"""A tar of an image's file system -> a folder, and nothing outside of it, whatever the tar says.

Python 3.9's tarfile has no filters. Nothing is ever written through a link, be it one of the tar or one that was there.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from api.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO

_CHUNK = 256 * 1024


def unpack(data: Iterable[bytes], folder: str, warn: Callable[[str], None]) -> None:
    """Write what the tar holds below the folder, as the caller's own files; raises ClientError.

    What is there is replaced, but for folders. Devices, pipes and setuid bits are not taken over; `warn` is told of
    the first two. Links are taken over as they are, wherever they lead.
    """
    root = Path(os.path.realpath(folder))
    modes: dict[Path, int] = {}  # set at the end, for a folder that may not be written to is to be filled first
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=_Reader(iter(data)), mode="r|", bufsize=_CHUNK) as archive:  # type: ignore[call-overload]
            for member in archive:
                _put(archive, member, root, modes, warn)
        for path, mode in reversed(modes.items()):
            path.chmod(mode)
    except tarfile.TarError as error:
        raise ClientError(f"What the service sent as the image's file system is no tar: {error}.") from error
    except (OSError, ValueError, OverflowError) as error:
        raise ClientError(f"The image's file system cannot be written to {folder}: {error}.") from error


def _put(
    archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path, modes: dict[Path, int], warn: Callable[[str], None]
) -> None:
    path = _inside(root, member.name)
    if path == root:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        if path.is_symlink():
            path.unlink()
        path.mkdir(exist_ok=True)
        path.chmod(0o700)
        modes[path] = member.mode & 0o777
        return
    if not (member.isreg() or member.issym() or member.islnk()):
        warn(f"Left out {member.name}: it is neither a file, a folder nor a link.")
        return
    path.unlink() if os.path.lexists(path) else None
    if member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        os.link(_inside(root, member.linkname), path, follow_symlinks=False)
    else:
        _write(archive.extractfile(member), path, member)


def _inside(root: Path, name: str) -> Path:
    """Where the member goes. No folder above it may be a link, even one that stays inside: a real tree has no such."""
    names = [part for part in name.split("/") if part not in ("", ".")]
    outside = ClientError(f"The image's file system has {name!r}, which would lie outside of {root}.")
    if name.startswith("/") or ".." in names or "\0" in name:
        raise outside
    path = root
    for part in names[:-1]:
        path /= part
        if path.is_symlink():
            raise outside
    return path / names[-1] if names else root


def _write(content: IO[bytes] | None, path: Path, member: tarfile.TarInfo) -> None:
    with path.open("xb") as file:
        while content and (data := content.read(_CHUNK)):
            file.write(data)
    path.chmod(member.mode & 0o777)
    os.utime(path, (member.mtime, member.mtime))


class _Reader:
    """The pieces as the file that tarfile reads from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        data = bytearray(self._rest)
        while len(data) < size and (piece := next(self._pieces, None)) is not None:
            data += piece
        self._rest = bytes(data[size:])
        return bytes(data[:size])
