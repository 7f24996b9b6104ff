"""The static busybox of this machine, from which the toolkit is made: it runs in any image, whatever that holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import InvalidSettings
from agent.toolkit import elf

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACES = (Path("/bin/busybox"), Path("/usr/bin/busybox"))


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
    try:
        return elf.interpreter(path) is None
    except elf.NotAProgram:
        return False
