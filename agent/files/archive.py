"""Unpacking a tar that a stranger made: all of it is inside the given folder, or nothing of it is anywhere.

Two walls. What the archive says is checked before it is done (`archive_plan`), with a sentence for whoever made it; and
every file is made through descriptors of folders that are no links, so that no archive can lead out of the folder.
"""

from __future__ import annotations

import gzip
import os
import zlib
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstandard

from agent.errors import InvalidArchive, SourceFailed
from agent.files import tar, tree
from agent.files.archive_plan import Folder, Plan, names_of
from agent.files.tar import Kind, Member, Read
from agent.stop import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from agent.settings import SourceSettings

# The largest window that `zstd` itself unpacks without being told to; it is the memory that unpacking takes (zstd(1)).
_ZSTD_WINDOW = 128 * 1024**2
_PIECE = 256 * 1024
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_TIMES = (-(2**31), 2**33)  # seconds that every file system can keep: 1901 to 2242


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveSummary:
    """What is in an archive: files, folders and links, and the bytes of the files."""

    files: int
    unpacked_size: int


def check(path: Path, limits: SourceSettings) -> ArchiveSummary:
    """Read a tar, plain, gzip or zstd, as `unpack` will, and write nothing. Raises InvalidArchive, with the reason."""
    plan, size = Plan(limits.max_files), 0
    with closing(_members(path, limits, lambda: False)) as members:
        for member in members:
            plan.add(member)
            size += member.size
    return ArchiveSummary(files=plan.count, unpacked_size=size)


def unpack(
    path: Path,
    into: Path,
    limits: SourceSettings,
    *,
    owner: tuple[int, int] | None,
    cancelled: Callable[[], bool],
) -> None:
    """Unpack a tar, plain, gzip or zstd, into an empty folder; all that is made belongs to `owner` (uid, gid) if given.

    Modes but for setuid, setgid and sticky, and times are kept. Whatever is raised, `into` is empty again:
    InvalidArchive, Stopped once `cancelled`, SourceFailed if the disk refuses.
    """
    with tree.opened(into) as top, closing(_members(path, limits, cancelled)) as members:
        try:
            _unpack(members, top, Plan(limits.max_files), owner)
        except BaseException as error:
            tree.empty(top)
            if isinstance(error, OSError):
                raise SourceFailed(f"the source could not be unpacked: {error.strerror}") from error
            raise


class _Stream:
    """What the archive holds once decompressed, counted while it is read; headers count as well as data."""

    def __init__(self, read: Read, most: int, cancelled: Callable[[], bool]) -> None:
        self._source = read
        self._most = self._left = most
        self._cancelled = cancelled

    def read(self, size: int) -> bytes:
        """Exactly so many bytes. Raises InvalidArchive at the end, the limit or a damage, and Stopped."""
        data = self._read(size)
        if len(data) < size:
            raise InvalidArchive("the archive ends in the middle; it was probably cut off")
        return data

    def drain(self) -> None:
        """Read what comes after the last member, since the checksums stand there."""
        while self._read(min(_PIECE, self._left + 1)):
            pass

    def _read(self, size: int) -> bytes:
        if self._cancelled():
            raise Stopped
        try:
            data = self._source(size)
        except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise InvalidArchive(f"the archive is damaged: {error}") from error
        self._left -= len(data)
        if self._left < 0:
            raise InvalidArchive(f"the archive unpacks to more than {self._most} bytes, which is sources.max_unpacked")
        return data


def _members(path: Path, limits: SourceSettings, cancelled: Callable[[], bool]) -> Generator[Member]:
    with _decompressed(path) as read:
        stream = _Stream(read, limits.max_unpacked, cancelled)
        yield from tar.members(stream.read)
        stream.drain()


@contextmanager
def _decompressed(path: Path) -> Iterator[Read]:
    """Reads the tar in a file that may be compressed, which its first bytes tell (RFC 1952, RFC 8878)."""
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked.read
        elif magic == b"\x28\xb5\x2f\xfd" or magic[1:] == b"\x2a\x4d\x18":  # a frame, or one to skip
            zstd = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
            with zstd.stream_reader(file, read_across_frames=True) as unpacked:
                yield unpacked.read
        else:
            yield file.read


def _unpack(members: Iterator[Member], top: int, plan: Plan, owner: tuple[int, int] | None) -> None:
    for member in members:
        if (place := plan.add(member)) is not None:
            with tree.below(top, place.above, make=0o700) as folder:
                if place.taken:
                    os.unlink(place.name, dir_fd=folder)
                _make(member, place.name, folder, top, owner)
    if owner is not None:
        os.fchown(top, *owner)
    # Only now, since what is made in a folder changes its time, and a read-only one would take nothing more.
    for here, planned, entry in tree.walk(top, plan.root, Folder.folder):
        if (made := planned.folder(entry.name)) is not None:
            with tree.opened(entry.name, at=here) as folder:
                _finish(folder, made.mode, made.mtime, owner)


def _make(member: Member, name: str, folder: int, top: int, owner: tuple[int, int] | None) -> None:
    if member.kind is Kind.FOLDER:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
    elif member.kind is Kind.FILE:
        with os.fdopen(os.open(name, _NEW_FILE, 0o600, dir_fd=folder), "wb") as file:
            file.writelines(member.data)
            file.flush()
            _finish(file.fileno(), member.mode, member.mtime, owner)
    elif member.kind is Kind.SYMLINK:
        os.symlink(member.target, name, dir_fd=folder)
        os.utime(name, ns=_times(member.mtime), dir_fd=folder, follow_symlinks=False)
        if owner is not None:
            os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
    else:
        *above, target = names_of(member.target, member)
        with tree.below(top, above) as there:
            os.link(target, name, src_dir_fd=there, dst_dir_fd=folder, follow_symlinks=False)


def _finish(descriptor: int, mode: int, mtime: float | None, owner: tuple[int, int] | None) -> None:
    if owner is not None:
        os.fchown(descriptor, *owner)
    os.fchmod(descriptor, mode & 0o777)
    if mtime is not None:
        os.utime(descriptor, ns=_times(mtime))


def _times(mtime: float) -> tuple[int, int]:
    seconds = min(max(mtime, _TIMES[0]), _TIMES[1])
    nanoseconds = round(seconds * 10**9)
    return nanoseconds, nanoseconds
