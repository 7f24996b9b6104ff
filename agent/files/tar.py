"""The members of a tar stream (ustar, pax and GNU), read once from front to back in flat memory; serves `archive`.

Not `tarfile`: on Pythons that we run on, one crafted header of a few bytes makes it hold the interpreter for seconds
(CVE-2024-6232), fill the memory or recurse without end, and it takes a damaged header for the end of the archive.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.errors import InvalidArchive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Read = Callable[[int], bytes]

BLOCK = 512  # bytes; POSIX.1-2017, pax, 'ustar Interchange Format'
_PIECE = 256 * 1024
_MAX_HEADERS = 8  # extended ones, before a member
_MAX_RECORDS = 100  # in a pax header
_MAX_EXTENDED = 1024**2  # bytes of one pax header or long name; real ones hold a name or two of 4096 bytes at most
_NUMBER = re.compile(rb"[ \0]*([0-7]*)(?:[ \0].*)?", re.DOTALL)
_DECIMAL = re.compile(rb"[0-9]{1,20}")


class Kind(StrEnum):
    """What a member is, in words for people."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symbolic link"
    HARD_LINK = "hard link"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    FIFO = "FIFO"
    SPARSE = "sparse file"
    OTHER = "member of a kind of its own"


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"1": Kind.HARD_LINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER_DEVICE,
    b"4": Kind.BLOCK_DEVICE,
    b"5": Kind.FOLDER,
    b"6": Kind.FIFO,
    b"S": Kind.SPARSE,
}
# Headers that tell more of what comes after them: pax for all members and for the next one (X on Solaris), GNU's.
_PAX_GLOBAL = b"g"
_PAX = {_PAX_GLOBAL, b"x", b"X"}
LONG = {b"L": b"path", b"K": b"linkpath"}
_PAX_KEYS = {b"path", b"linkpath", b"size", b"mtime"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One member as the archive tells it: nothing of it is to be trusted. `mtime` is in seconds since the epoch."""

    name: str
    kind: Kind
    mode: int
    mtime: float
    size: int  # bytes of data; 0 if it is no file
    target: str  # of a link
    data: Iterator[bytes]  # to be read before the next member, or not at all


def members(read: Read) -> Iterator[Member]:
    """The members up to the end mark. `read(n)` gives exactly n bytes or raises. Raises InvalidArchive if damaged.

    After a member that is SPARSE or OTHER nothing more can be read: where its data ends is not known here.
    """
    shared: dict[bytes, bytes] = {}
    own: dict[bytes, bytes] = {}
    extended = 0
    while any(header := read(BLOCK)):
        _check(header)
        kind = header[156:157]
        extended = extended + 1 if kind in _PAX or kind in LONG else 0
        if extended > _MAX_HEADERS:
            raise InvalidArchive(f"the archive is refused: a member has more than {_MAX_HEADERS} extended headers")
        if kind in _PAX:
            (shared if kind == _PAX_GLOBAL else own).update(records(_extended(header, read)))
        elif kind in LONG:
            own[LONG[kind]] = text(_extended(header, read))
        else:
            found = member(header, stated(shared | own), read)
            yield found
            for _ in found.data:
                pass
            own = {}


def member(header: bytes, more: Mapping[bytes, bytes], read: Read) -> Member:
    """The member with that header, of which headers before it told more. Raises InvalidArchive."""
    name = more.get(b"path", _name(header))
    kind = Kind.SPARSE if b"sparse" in more else _KINDS.get(header[156:157], Kind.OTHER)
    if header[156:157] == b"\0" and name.endswith(b"/"):
        kind = Kind.FOLDER  # how it was written before POSIX
    size = size_of(header, more) if kind is Kind.FILE else 0
    return Member(
        name=_decode(name),
        kind=kind,
        mode=_number(header[100:108]) & 0o7777,
        mtime=_mtime(more[b"mtime"]) if b"mtime" in more else _number(header[136:148]),
        size=size,
        target=_decode(more.get(b"linkpath", text(header[157:257]))),
        data=_data(size, read),
    )


def _data(size: int, read: Read) -> Iterator[bytes]:
    padding = -size % BLOCK
    while size:
        piece = read(min(size, _PIECE))
        size -= len(piece)
        yield piece
    read(padding)


def _check(header: bytes) -> None:
    """The sum of all bytes, its own field taken as spaces; some old programs added them up as signed."""
    rest = header[:148] + b" " * 8 + header[156:]
    unsigned = sum(rest)
    signed = unsigned - 256 * sum(byte > 127 for byte in rest)
    if _number(header[148:156]) not in {unsigned, signed}:
        raise InvalidArchive("the archive is damaged, or no tar archive: a header's checksum is wrong")


def _name(header: bytes) -> bytes:
    name = text(header[:100])
    prefix = text(header[345:500]) if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def size_of(header: bytes, more: Mapping[bytes, bytes]) -> int:
    """The bytes of its data, if it is of a kind that has any. Raises InvalidArchive."""
    if b"size" in more:
        if not _DECIMAL.fullmatch(more[b"size"]):
            raise _broken("a size")
        return int(more[b"size"])
    size = _number(header[124:136])
    if size < 0:
        raise _broken("a size")
    return size


def _mtime(text: bytes) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise _broken("a time")
    return seconds


def _extended(header: bytes, read: Read) -> bytes:
    return b"".join(_data(extended_size(header), read))


def extended_size(header: bytes) -> int:
    """The bytes that an extended header has after itself. Raises InvalidArchive if they are too many."""
    size = size_of(header, {})
    if size > _MAX_EXTENDED:
        raise InvalidArchive(f"the archive is refused: one of its extended headers is over {_MAX_EXTENDED} bytes")
    return size


def records(body: bytes, most: int = _MAX_RECORDS) -> dict[bytes, bytes]:
    """A pax header's records, each `length key=value` and a line's end; only those that matter here are kept.

    Raises InvalidArchive if they are damaged or more than `most`.
    """
    kept: dict[bytes, bytes] = {}
    at = count = 0
    while at < len(body):
        count += 1
        if count > most:
            raise InvalidArchive(f"the archive is refused: a pax header has more than {most} records")
        space = body.find(b" ", at, at + 20)
        length = int(body[at:space]) if space > at and body[at:space].isdigit() else 0
        key, equals, value = body[space + 1 : at + length].partition(b"=")
        if not equals or value[-1:] != b"\n" or at + length > len(body):
            raise _broken("a pax header")
        if key in _PAX_KEYS:
            kept[key] = value[:-1]
        elif key.startswith(b"GNU.sparse."):
            kept[b"sparse"] = b"yes"
        at += length
    return kept


def stated(values: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Without empty ones, which take back what a header says (POSIX.1-2017, pax Extended Header)."""
    return {key: value for key, value in values.items() if value}


def _number(field: bytes) -> int:
    """Octal digits, or what GNU writes where those are too few: a mark in the first byte, then a binary number."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] == 0xFF:
        return int.from_bytes(field, "big", signed=True)
    match = _NUMBER.fullmatch(field)
    if match is None:
        raise _broken("a number")
    return int(match[1] or b"0", 8)


def text(field: bytes) -> bytes:
    """What a field has before its first null byte."""
    return field.partition(b"\0")[0]


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _broken(what: str) -> InvalidArchive:
    return InvalidArchive(f"the archive is damaged: {what} in it cannot be read")
