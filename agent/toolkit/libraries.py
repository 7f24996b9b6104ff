"""The loader and the shared libraries that a Java needs, copied from this machine: it then needs none of an image."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import InvalidSettings
from agent.toolkit import elf

if TYPE_CHECKING:
    from collections.abc import Iterator

LOADER = "ld.so"  # under this name on every machine
_LOCALES = Path("/usr/lib/locale")
_LOCALE = "C.utf8"
# Jenkins images set en_US.UTF-8 and the like; glibc takes the language's folder for the country's (setlocale(3)).
_LANGUAGES = ("de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "zh")
# What is asked for by name at run time: by glibc itself (name services; their own files until 2.34), and by native
# libraries in the controller's jars, which may be older than the libc that has taken these in.
_BY_NAME = (
    *("libdl.so.2", "libm.so.6", "libpthread.so.0", "libresolv.so.2", "librt.so.1", "libutil.so.1"),
    *("libnss_dns.so.2", "libnss_files.so.2", "libgcc_s.so.1", "libstdc++.so.6"),
)
_RESOLVED = re.compile(r" => (/\S+) \(")


def loader_of(java_home: Path) -> Path:
    """The loader of a Java home's programs. Raises InvalidSettings if it is not that of glibc, or there is none."""
    program = java_home / "bin" / "java"
    try:
        loader = elf.interpreter(program)
    except (elf.NotAProgram, OSError) as error:
        raise InvalidSettings(f"{program} cannot be run here: {error}") from error
    if loader is None or not Path(loader).name.startswith("ld-linux"):
        raise InvalidSettings(
            f"{program} is made for another C library than glibc, whose loader ({loader or 'none'}) cannot run it in "
            "other images. Set jenkins.java to a Java for glibc."
        )
    return Path(loader)


def gather(jre: Path, into: Path) -> None:
    """Copy into a new folder what a Java home needs of this machine. Raises InvalidSettings as `loader_of`, OSError.

    A library that this machine lacks is left out, as the Java would have to do without it here too.
    """
    loader = loader_of(jre)
    into.mkdir()
    shutil.copyfile(loader, into / loader.name)
    (into / loader.name).chmod(0o755)
    (into / LOADER).symlink_to(loader.name)
    for library in _needed(jre, loader):
        shutil.copyfile(library, into / library.name)
    if (_LOCALES / _LOCALE).is_dir():
        shutil.copytree(_LOCALES / _LOCALE, into / "locale" / _LOCALE)
        for language in _LANGUAGES:
            (into / "locale" / f"{language}.utf8").symlink_to(_LOCALE)


def _needed(jre: Path, loader: Path) -> set[Path]:
    """The libraries outside of a Java home that anything in it needs, by where the loader finds them."""
    inside = f"{jre}/lib:{jre}/lib/server"
    found: set[Path] = set()
    for file in (jre / "bin" / "java", jre / "lib" / "jspawnhelper", *jre.rglob("*.so")):
        listing = subprocess.run(
            [loader, "--library-path", inside, "--list", file], env={}, capture_output=True, text=True, check=False
        )
        found.update(Path(path) for path in _RESOLVED.findall(listing.stdout))
    outside = {path for path in found if not path.is_relative_to(jre)}
    return outside | set(_named(outside))


def _named(libraries: set[Path]) -> Iterator[Path]:
    for libc in (path for path in libraries if path.name == "libc.so.6"):
        yield from (libc.with_name(name) for name in _BY_NAME if libc.with_name(name).exists())
