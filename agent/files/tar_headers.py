"""The headers of a tar, out of its pieces as they come, for who does not need the data.

As the engine reads them, which is by Go's archive/tar (src/archive/tar/reader.go). Whoever finds another end to a
member's data sees other members after it. What Go takes for damaged may be read in any way: it stops there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.errors import InvalidArchive
from agent.files import tar

if TYPE_CHECKING:
    from collections.abc import Mapping

_END = bytes(tar.BLOCK)
_PAX, _PAX_GLOBAL, _SPARSE, _OLD = b"x", b"g", b"S", b"\0"
_EXTENDED = {_PAX, _PAX_GLOBAL, *tar.LONG}
_WITHOUT_DATA = {bytes([kind]) for kind in b"123456"}  # links, devices, folders and pipes, whatever size they tell
_MAX_RECORDS = 10_000  # in a pax header; a file's extended attributes are there as well


class Header(NamedTuple):
    """A member's own header, and what those before it told of it: see `tar.member`."""

    block: bytes
    more: Mapping[bytes, bytes]


class Headers:
    """Of one tar. Raises InvalidArchive for a sparse file: of that more is written than has come."""

    def __init__(self) -> None:
        self._waiting = bytearray()  # a header that is not whole yet; nothing while data is to come
        self._passing = 0  # bytes of data
        self.ended = False  # its end mark has come
        # What headers before a member told of it, in pax records and by GNU.
        self._told: dict[bytes, bytes] = {}
        self._long: dict[bytes, bytes] = {}

    def passes(self, size: int) -> bool:
        """Whether so many bytes more have no header in them; then they are taken for read."""
        if self.ended:
            return True
        is_data = size <= self._passing
        self._passing -= size if is_data else 0
        return is_data

    def of(self, piece: bytes) -> list[Header]:
        """Those that are whole with this piece."""
        found: list[Header] = []
        if self.passes(len(piece)):
            return found
        self._waiting += piece
        at = 0
        while (at := self._data_end(at)) + tar.BLOCK <= len(self._waiting):
            block = bytes(self._waiting[at : at + tar.BLOCK])
            if block == _END:  # one such block is enough for Go to read nothing more
                self.ended, at = True, len(self._waiting)
                break
            size = _extent(block)
            if at + tar.BLOCK + size > len(self._waiting):
                break
            at += tar.BLOCK + size
            found += self._read(block, bytes(self._waiting[at - size : at]))
        del self._waiting[:at]
        return found

    def _data_end(self, at: int) -> int:
        passed = min(self._passing, len(self._waiting) - at)
        self._passing -= passed
        return at + passed

    def _read(self, block: bytes, body: bytes) -> list[Header]:
        kind = block[156:157]
        if kind in _EXTENDED:
            self._keep(kind, body[: tar.size_of(block, {})])
            return []
        header = Header(block, self._told | self._long)
        self._forget()
        if kind == _SPARSE:
            raise _sparse()
        if kind not in _WITHOUT_DATA:
            size = tar.size_of(*header)
            _see_file(header, size)
            self._passing = _padded(size)
        return [header]

    def _keep(self, kind: bytes, body: bytes) -> None:
        if kind in tar.LONG:
            self._long |= tar.stated({tar.LONG[kind]: tar.text(body)})
            return
        told = tar.records(body, _MAX_RECORDS)
        if b"sparse" in told:
            raise _sparse()
        if kind == _PAX_GLOBAL:  # tells nothing to Go, but is a member of its own
            self._forget()
        else:  # alone what the last one told is for the member
            self._told = tar.stated(told)

    def _forget(self) -> None:
        self._told, self._long = {}, {}


def _extent(block: bytes) -> int:
    """The bytes after a header that belong to it."""
    return _padded(tar.extended_size(block)) if block[156:157] in _EXTENDED else 0


def _see_file(header: Header, size: int) -> None:
    """See that it is one in every reading: before POSIX, folders had no kind of their own but a name with a slash."""
    name = tar.text(header.block[:100])
    ends = (name, header.more.get(b"path", name))
    if size and header.block[156:157] == _OLD and not all(each and not each.endswith(b"/") for each in ends):
        raise InvalidArchive("the archive is damaged: a folder in it has data")


def _padded(size: int) -> int:
    return size + -size % tar.BLOCK


def _sparse() -> InvalidArchive:
    return InvalidArchive("the archive has a sparse file, which has more bytes than the archive; make it without -S")
