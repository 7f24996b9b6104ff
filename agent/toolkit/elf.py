"""Whether a program needs a loader, and which, as its file says it: a 64-bit little-endian ELF."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

# System V ABI, 'ELF header' and 'Program header': in 64-bit little-endian, e_phoff is at 32, e_phentsize at 54; of a
# segment, p_type is at 0, p_offset at 8 and p_filesz at 32.
_ELF64 = b"\x7fELF\x02\x01"
_PT_INTERP = 3  # the segment that names a loader, which only a dynamic program has
_SEGMENT = 56


class NotAProgram(ValueError):
    """The file is no such ELF, or is cut off."""


def interpreter(path: Path) -> str | None:
    """The loader that a program asks for, or None if it needs none. Raises NotAProgram, or OSError."""
    with path.open("rb") as file:
        header = _part(file, 0, 64)
        if not header.startswith(_ELF64):
            raise NotAProgram(f"{path} is no 64-bit ELF program")
        (offset,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        segments = _part(file, offset, size * count)
        if size < _SEGMENT:
            raise NotAProgram(f"{path} has no table of segments")
        for start in range(0, len(segments), size):
            if struct.unpack_from("<I", segments, start) == (_PT_INTERP,):
                (at,) = struct.unpack_from("<Q", segments, start + 8)
                (length,) = struct.unpack_from("<Q", segments, start + 32)
                return _part(file, at, length).rstrip(b"\0").decode(errors="replace")
    return None


def _part(file: BinaryIO, at: int, length: int) -> bytes:
    if at + length > os.fstat(file.fileno()).st_size:
        raise NotAProgram(f"{file.name} is cut off")
    file.seek(at)
    return file.read(length)
