"""The jars that a controller sends to every new agent, kept, so that an agent finds them in its cache instead.

The agent program looks a jar up by the checksum that the controller names, and loads what it finds under that name
without a look at its content (hudson.remoting.FileSystemJarCache). Therefore:

- A jar is only taken if its content has the checksum of its name. Nobody can slip another one in.
- Agents get copies. A hard link, or one folder for all, would let the root of one build write what another one runs.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from agent.errors import AgentError
from agent.files import tree
from agent.toolkit import folders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CACHE = ("remoting", "jarCache")  # below the agent's workDir
MAX_BYTES = 256 * 1024**2  # kept; and read in one harvest
_MAX_NAMES = 1000  # looked at in one folder
_FOLDER, _JAR = re.compile(r"[0-9A-F]{2}"), re.compile(r"[0-9A-F]{30}\.jar")
_UNFINISHED = "unfinished"
_PIECE = 1024**2


def harvest(cache: Path, seeds: Path, *, most: int = MAX_BYTES) -> int:
    """Keep the jars that an agent's cache holds; returns how many are new. Those not seen for longest make room.

    The cache may be anybody's work, and need not be there: no link is followed, and nothing but a right jar is taken.
    It waits for another harvest into the same seeds. Raises AgentError if the disk refuses; all jars kept are whole.
    """
    new = read = 0
    try:
        seeds.mkdir(mode=0o700, exist_ok=True)
        with folders.alone(seeds):
            for path, jar in _jars(cache):
                if (seeds / path).exists():
                    os.utime(seeds / path)
                elif (read := read + os.fstat(jar.fileno()).st_size) <= most:
                    new += _keep(jar, seeds, path)
            _make_room(seeds, most)
    except OSError as error:
        raise AgentError(f"The jars for agents could not be kept: {error}") from error
    return new


def sow(seeds: Path, workspace: Path) -> None:
    """Copy all jars that are kept into the cache of an agent that will work there; its user must own it afterwards.

    If that was cut off, the workspace must be made anew. Raises AgentError if the disk refuses.
    """
    try:
        with tree.opened(workspace) as top:
            for jar in seeds.glob("??/*.jar"):
                with tree.below(top, (*CACHE, jar.parent.name), make=0o755) as folder:
                    _copy(jar, folder)
    except OSError as error:
        raise AgentError(f"The jars for an agent could not be copied: {error}") from error


def name_of(sha256: bytes) -> str:
    """Where the agent program looks for a jar of this digest (hudson.remoting.Checksum, FileSystemJarCache.map)."""
    first, second, third, fourth = struct.unpack(">4Q", sha256)
    high, low = first ^ third, second ^ fourth
    return f"{high >> 56:02X}/{high & 0x00FFFFFFFFFFFFFF:014X}{low:016X}.jar"


def _jars(cache: Path) -> Iterator[tuple[str, BinaryIO]]:
    """The path of each file that may be a jar, and that open. What cannot be opened is passed by, and so is a link."""
    with suppress(OSError), tree.opened(cache) as top:
        for outer in _names(top, _FOLDER):
            with suppress(OSError), tree.opened(outer, at=top) as folder:
                for name in _names(folder, _JAR):
                    with suppress(OSError), _opened(name, folder) as jar:
                        if stat.S_ISREG(os.fstat(jar.fileno()).st_mode):
                            yield f"{outer}/{name}", jar


def _names(folder: int, pattern: re.Pattern[str]) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, _MAX_NAMES) if pattern.fullmatch(entry.name)]


def _opened(name: str, folder: int) -> BinaryIO:
    """Not to wait for the other end, should it be a pipe."""
    return os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder), "rb")


def _keep(jar: BinaryIO, seeds: Path, path: str) -> bool:
    """Whether it has the content of its name. What is checked is what was written, should the file change meanwhile."""
    digest, left = hashlib.sha256(), os.fstat(jar.fileno()).st_size
    with (seeds / _UNFINISHED).open("wb") as copy:
        while piece := jar.read(min(left, _PIECE)):
            digest.update(piece)
            copy.write(piece)
            left -= len(piece)
        copy.flush()
        os.fsync(copy.fileno())
    if name_of(digest.digest()) != path:
        return False
    (seeds / path).parent.mkdir(mode=0o700, exist_ok=True)
    (seeds / _UNFINISHED).rename(seeds / path)
    return True


def _make_room(seeds: Path, most: int) -> None:
    kept = [(path.stat().st_mtime, path) for path in seeds.glob("??/*.jar")]
    for _, path in sorted(kept, reverse=True):
        most -= path.stat().st_size
        if most < 0:
            path.unlink()
    (seeds / _UNFINISHED).unlink(missing_ok=True)


def _copy(jar: Path, folder: int) -> None:
    with suppress(FileNotFoundError), jar.open("rb") as content:  # a harvest may have removed it
        to = os.open(jar.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644, dir_fd=folder)
        with os.fdopen(to, "wb") as copy:
            while os.copy_file_range(content.fileno(), to, 64 * _PIECE):
                pass
            os.fchmod(copy.fileno(), 0o644)
