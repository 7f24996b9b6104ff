"""The static busybox of this machine, from which the toolkit is made: it runs in any image, whatever that holds."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import InvalidSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACES = (Path("/bin/busybox"), Path("/usr/bin/busybox"))

# System V ABI, 'ELF header' and 'Program header': in 64-bit little-endian, e_phoff is at 32, e_phentsize at 54.
_ELF64 = b"\x7fELF\x02\x01"
_PT_INTERP = 3  # the segment that names a loader, which only a dynamic program has


def find_static_busybox(places: Sequence[Path] = PLACES) -> Path:
    """The first of these places that holds one. Raises InvalidSettings with the cure."""
    for path in places:
        if path.is_file() and is_static(path):
            return path
    raise InvalidSettings(
        f"There is no static busybox at {' or '.join(map(str, places))}, with which every build begins. Run "
        "`apt-get install busybox-static`."
    )


def is_static(path: Path) -> bool:
    """Whether it is a 64-bit ELF program that needs no loader."""
    with path.open("rb") as file:
        header = file.read(64)
        if len(header) < 64 or not header.startswith(_ELF64):
            return False
        (offset,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(offset)
        segments = file.read(size * count)
    if size == 0 or len(segments) < size * count:
        return False
    types = (struct.unpack_from("<I", segments, start)[0] for start in range(0, size * count, size))
    return _PT_INTERP not in types
