"""agent.jar: a program of our own in Java, compiled once by the machine's JDK; and jars for its jar cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent / "agent"
MAIN = "sibling.remoting.Launcher"
PAYLOAD = "sibling.payload.Part{}"
_PAYLOAD_SOURCE = """package sibling.payload;
public final class Part{0} implements java.util.function.Supplier<String> {{
    public String get() {{ return "part {0}"; }}
}}
"""


@dataclass(frozen=True)
class CachedJar:
    content: bytes
    class_name: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def cache_path(self) -> str:
        """Its name below an agent's jar cache, as remoting makes it of the content's digest."""
        return cache_path(self.sha256)


def cache_path(sha256: str) -> str:
    words = struct.unpack(">4Q", bytes.fromhex(sha256))
    first, second = words[0] ^ words[2], words[1] ^ words[3]
    return f"{first >> 56:02X}/{first & 0x00FFFFFFFFFFFFFF:014X}{second:016X}.jar"


class AgentJar:
    """Kept in a folder named after a digest of the sources, so that it is made once for all processes."""

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache or Path(tempfile.gettempdir()) / f"sibling-test-agent-{os.getuid()}"
        self._lock = threading.Lock()
        self._content: bytes | None = None

    def path(self) -> Path:
        return self._made("agent.jar", self._sources(), MAIN)

    def content(self) -> bytes:
        with self._lock:
            if self._content is None:
                self._content = self.path().read_bytes()
            return self._content

    def cached_jars(self, count: int) -> list[CachedJar]:
        jars = []
        for number in range(count):
            name = PAYLOAD.format(number)
            source = {f"{name.rpartition('.')[2]}.java": _PAYLOAD_SOURCE.format(number)}
            jars.append(CachedJar(self._made("part.jar", source).read_bytes(), name))
        return jars

    def _sources(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted(SOURCES.rglob("*.java"))}

    def _made(self, name: str, sources: dict[str, str], main: str | None = None) -> Path:
        digest = hashlib.sha256(repr((name, sorted(sources.items()), main)).encode()).hexdigest()[:16]
        made = self._cache / digest / name
        if made.exists():
            return made
        made.parent.mkdir(parents=True, exist_ok=True)
        with (made.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                _compile(sources, made, main)
        return made


def _compile(sources: dict[str, str], made: Path, main: str | None) -> None:
    for tool in ("javac", "jar"):
        if not shutil.which(tool):
            raise FileNotFoundError(f"The simulated agent is written in Java, and there is no `{tool}` on the PATH.")
    with tempfile.TemporaryDirectory(dir=made.parent) as folder:
        for name, text in sources.items():
            (Path(folder) / name).write_text(text)
        _run("javac", "--release", "17", "-d", "classes", *sources, cwd=folder)
        entry = ["--main-class", main] if main else []
        _run("jar", "--create", "--file", "made.jar", *entry, "-C", "classes", ".", cwd=folder)
        (Path(folder) / "made.jar").rename(made)


def _run(*command: str, cwd: str) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
