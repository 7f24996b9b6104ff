"""The loader and the shared libraries that programs of this machine need, copied: they then need none of an image."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import InvalidSettings
from agent.toolkit import elf

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOADER = "ld.so"  # under this name on every machine
_LOCALES = Path("/usr/lib/locale")
_LOCALE = "C.utf8"
# Jenkins images set en_US.UTF-8 and the like; glibc takes the language's folder for the country's (setlocale(3)).
_LANGUAGES = ("de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "zh")
# What is asked for by name at run time: by glibc itself (name services; their own files until 2.34; libgcc_s to end a
# thread), and by libraries that may be older than the libc that has taken these in.
_BY_NAME = (
    *("libdl.so.2", "libm.so.6", "libpthread.so.0", "libresolv.so.2", "librt.so.1", "libutil.so.1"),
    *("libnss_dns.so.2", "libnss_files.so.2", "libgcc_s.so.1"),
)
_RESOLVED = re.compile(r" => (/\S+) \(")


def loader_of(program: Path, cure: str) -> Path:
    """The loader of a program. Raises InvalidSettings, with the cure, if it is not that of glibc, or there is none."""
    try:
        loader = elf.interpreter(program)
    except (elf.NotAProgram, OSError) as error:
        raise InvalidSettings(f"{program} cannot be run here: {error}") from error
    if loader is None or not Path(loader).name.startswith("ld-linux"):
        raise InvalidSettings(
            f"{program} is made for another C library than glibc, whose loader ({loader or 'none'}) cannot run it in "
            f"other images. {cure}"
        )
    return Path(loader)


def needed(
    loader: Path, files: Iterable[Path], *, beside: Sequence[Path] = (), by_name: Iterable[str] = ()
) -> set[Path]:
    """The libraries that any of these files needs, by where the loader finds them: first in the folders `beside`.

    What is only asked for by name is looked for beside libc. A library that this machine lacks is left out, as the
    program would have to do without it here too.
    """
    folders = ":".join(map(str, beside))
    found: set[Path] = set()
    for file in files:
        listing = subprocess.run(
            [loader, "--library-path", folders, "--list", file], env={}, capture_output=True, text=True, check=False
        )
        found.update(Path(path) for path in _RESOLVED.findall(listing.stdout))
    for libc in [path for path in found if path.name == "libc.so.6"]:
        found.update(libc.with_name(name) for name in (*_BY_NAME, *by_name) if libc.with_name(name).exists())
    return found


def gather(loader: Path, libraries: Iterable[Path], into: Path) -> None:
    """Copy a loader and libraries into a new folder. Raises OSError."""
    into.mkdir(parents=True)
    shutil.copyfile(loader, into / loader.name)
    (into / loader.name).chmod(0o755)
    (into / LOADER).symlink_to(loader.name)
    for library in libraries:
        shutil.copyfile(library, into / library.name)


def add_locales(into: Path) -> None:
    """Copy glibc's locale of UTF-8, if this machine has it, into such a folder. Raises OSError."""
    if (_LOCALES / _LOCALE).is_dir():
        shutil.copytree(_LOCALES / _LOCALE, into / "locale" / _LOCALE)
        for language in _LANGUAGES:
            (into / "locale" / f"{language}.utf8").symlink_to(_LOCALE)
