"""A source folder as a tar stream, sent as it is read: never in memory, never in a temporary file."""

from __future__ import annotations

import os
import stat
import tarfile
import time
import zlib
from pathlib import Path

from api.client import ignore
from api.client.errors import ClientError
from api.client.terminal import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from io import RawIOBase
    from typing import Union

    from api.client.connection import Connection
    from api.client.dockerignore import Dockerignore
    from api.client.terminal import Screen

    Ignored = Union[ignore.Ignore, Dockerignore]
    Entry = tuple[str, tarfile.TarInfo]

CHUNK = 256 * 1024
_END = bytes(2 * tarfile.BLOCKSIZE)
_GZIP = 16 + zlib.MAX_WBITS
_SHOW_EVERY = 0.1
_BAR = 24  # characters
# The service unpacks what it gets before it answers, and a tree may be large.
_TIMEOUT = 600.0


def upload(connection: Connection, folder: str, screen: Screen, ignored: Ignored | None = None) -> str:
    """Send the folder, without what is `ignored`, as a source; the source's id. Raises ClientError."""
    if not Path(folder).is_dir():
        raise ClientError(f"The source {folder} is not a folder.")

    def chunks() -> Iterator[bytes]:
        stream = _whole_chunks(tar(folder, screen.say, ignored))
        if screen.live:
            stream = _shown(stream, screen, _length(folder, ignored))
        return stream if connection.address.local else _compressed(stream)

    kind = "application/x-tar" if connection.address.local else "application/gzip"
    source: str = connection.put("/v1/sources", chunks, kind, _TIMEOUT)["id"]
    screen.clear()
    return source


def tar(folder: str, warn: Callable[[str], None], ignored: Ignored | None = None) -> Iterator[bytes]:
    """The folder's content as an uncompressed tar: everything but what is `ignored`, owned by root.

    `.siblingignore` says what that is unless told otherwise. `warn` is told of what cannot go along: sockets, pipes,
    devices, and what vanishes meanwhile. Raises ClientError for what cannot be read, and for a file that becomes
    shorter meanwhile.
    """
    ignored = ignored or ignore.read(folder)
    for path, info in _entries(folder, warn, ignored):
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if not info.isreg():
            yield header
            continue
        try:
            with Path(path).open("rb", buffering=0) as file:
                yield header
                yield from _content(file, path, info.size)
        except FileNotFoundError:
            warn(f"Left out {path}: it vanished.")
        except OSError as error:
            raise _unreadable(path, error, ignored.file) from error
    yield _END


def _content(file: RawIOBase, path: str, size: int) -> Iterator[bytes]:
    left = size
    while left:
        data = file.read(min(left, CHUNK))
        if not data:
            raise ClientError(f"{path} became shorter while it was uploaded; stop what writes to it, or ignore it.")
        left -= len(data)
        yield data
    yield bytes(-size % tarfile.BLOCKSIZE)


def _entries(folder: str, warn: Callable[[str], None], ignored: Ignored) -> Iterator[Entry]:
    top = str(Path(folder))  # "." and no doubled slashes, so that cutting it off leaves the relative name
    root = len(top.rstrip("/")) + 1
    held: dict[str, Entry] = {}
    waiting = _listed(top, ignored.file)
    while waiting:
        entry = waiting.pop()
        name = entry.path[root:]
        is_folder = entry.is_dir(follow_symlinks=False)
        stays = ignored(name, folder=is_folder)
        if stays and not (is_folder and ignored.opens(name)):
            continue
        try:
            info = _described(entry, name)
            if info is None:
                warn(f"Left out {entry.path}: it is neither a file, a folder nor a link.")
                continue
            if stays:
                held[name] = entry.path, info
            else:
                yield from _released(held, name)
                yield entry.path, info
            if info.isdir():
                waiting += _listed(entry.path, ignored.file)
        except FileNotFoundError:
            warn(f"Left out {entry.path}: it vanished.")
        except OSError as error:
            raise _unreadable(entry.path, error, ignored.file) from error


def _released(held: dict[str, Entry], name: str) -> Iterator[Entry]:
    """The ignored folders above the entry, the topmost first, for they go along with what goes below them."""
    if held:
        for end in (index for index, character in enumerate(name) if character == "/"):
            if name[:end] in held:
                yield held.pop(name[:end])


def _listed(folder: str, ignore_file: str) -> list[os.DirEntry[str]]:
    """Last name first, as a stack is emptied from its end; nothing if the folder vanished."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name, reverse=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(folder, error, ignore_file) from error


def _described(entry: os.DirEntry[str], name: str) -> tarfile.TarInfo | None:
    status = entry.stat(follow_symlinks=False)
    info = tarfile.TarInfo(name)
    info.mode = stat.S_IMODE(status.st_mode) & 0o777
    info.mtime = int(status.st_mtime)
    if stat.S_ISREG(status.st_mode):
        info.size = status.st_size
    elif stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(entry.path)  # noqa: PTH115 - a Path would tidy the target
    else:
        return None
    return info


def _unreadable(path: str, error: OSError, ignore_file: str) -> ClientError:
    return ClientError(
        f"{path} cannot be read: {error.strerror}. Nothing was submitted; mend it, or name it in {ignore_file}."
    )


def _whole_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in few pieces: a tree of small files must not become a packet for each."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        if len(buffer) >= CHUNK:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    gzip = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    for piece in pieces:
        if data := gzip.compress(piece):
            yield data
    yield gzip.flush()


def _length(folder: str, ignored: Ignored | None) -> int:
    """How long the tar will be, roughly: a look at every file, which takes a small part of what reading them takes."""
    entries = _entries(folder, lambda _: None, ignored or ignore.read(folder))
    return sum(tarfile.BLOCKSIZE + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE for _, info in entries)


def _shown(pieces: Iterable[bytes], screen: Screen, total: int) -> Iterator[bytes]:
    sent = 0
    began = time.monotonic()
    next_time = began
    for piece in pieces:
        yield piece
        sent += len(piece)
        now = time.monotonic()
        if now >= next_time:
            part = min(1.0, sent / max(total, 1))
            rate = sent / max(now - began, _SHOW_EVERY)
            filled = int(part * _BAR)
            bar = "=" * filled + " " * (_BAR - filled)
            screen.status(f"uploading [{bar}] {part:4.0%} of {size(total)}, {size(int(rate))}/s")
            next_time = now + _SHOW_EVERY
