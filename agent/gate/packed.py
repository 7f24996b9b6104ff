"""Tar archives that come packed: as they are, or out of gzip.

The engine takes others as well, and gives their unpackers as much memory as an archive asks for; it counts in no
build's limits. Without the mend for CVE-2026-41567 it may run them from a container's own files. So it is sent
nothing that begins as what is packed does. Nor is it sent sparse files: what is counted is what comes.
"""

from __future__ import annotations

import tarfile
import zlib
from typing import TYPE_CHECKING

from agent.errors import InvalidRequest
from agent.files.tar_headers import Headers
from agent.gate.exchange import CHUNK
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GZIP = b"\x1f\x8b"
# A frame of zstd, and frames that are skipped (RFC 8878, 3.1).
_ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60)))
BZIP2, XZ = b"BZh", b"\xfd7zXZ"
NOT_GZIP = (*_ZSTD, BZIP2, XZ)
_PACKED = (GZIP, *NOT_GZIP)
_LONGEST = max(map(len, _PACKED))
_GZIP_FORMAT = 31  # zlib's number for it, with the largest window


async def plain(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The tar that is in it. Raises InvalidRequest if it is packed by other than gzip, damaged, or has sparse files."""
    first, whole = await _begun(pieces)
    packers = NOT_GZIP
    if first.startswith(GZIP):
        first, whole = await _begun(_unpacked(whole))
        packers = _PACKED
    if first.startswith(packers):
        raise InvalidRequest("the archive is packed by zstd, bzip2 or xz, or twice; send it as it is, or by gzip")
    headers = Headers()
    async for piece in whole:
        if not headers.passes(len(piece)):
            await in_thread(headers.of, piece)
        yield piece


async def unmistaken(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A tar that nobody packed. Where its first name reads as a packer's mark, the root comes before that."""
    first, whole = await _begun(pieces)
    if first.startswith(_PACKED):
        root = tarfile.TarInfo("./")
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        yield root.tobuf(tarfile.USTAR_FORMAT)
    async for piece in whole:
        yield piece


async def _begun(pieces: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """How it begins, enough of it to tell a packer; and all of it."""
    first = b""
    async for piece in pieces:
        first += piece
        if len(first) >= _LONGEST:
            break
    return first, _joined(first, pieces)


async def _joined(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in pieces:
        yield piece


async def _unpacked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Of several members one after the other, as of one (RFC 1952, 2.2)."""
    stream = zlib.decompressobj(_GZIP_FORMAT)
    async for piece in pieces:
        left = piece
        while left:
            if stream.eof:
                stream = zlib.decompressobj(_GZIP_FORMAT)
            try:
                data = await in_thread(stream.decompress, left, CHUNK)
            except zlib.error as error:
                raise InvalidRequest(f"the archive is damaged: {error}") from error
            left = stream.unconsumed_tail or stream.unused_data
            if data:
                yield data
    if not stream.eof:
        raise InvalidRequest("the archive ends in the middle")
