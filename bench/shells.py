"""A shell in a container, which does one line after another, and says when it is done.

It is told over one pipe and answers over another, in a folder that this machine sees, too: so what is measured has no
part of the engine's in it, as the start of a process with `docker exec` would have.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """until [ -p done ]; do sleep 0.1; done
while read -r line <next; do sh -c "$line" >output 2>&1 && echo 0 >done || echo $? >done; done
"""
"""To be run in the folder."""
_WITHIN = 120.0  # seconds


class Shell:
    """Runs `SCRIPT` in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("next", "done"):
            os.mkfifo(folder / name)
            (folder / name).chmod(0o666)
        # Open for writing, too, so that neither waits for the other to open it, and none ever ends.
        self._next = os.open(folder / "next", os.O_RDWR | os.O_CLOEXEC)
        self._done = os.open(folder / "done", os.O_RDWR | os.O_CLOEXEC)

    def run(self, line: str) -> float:
        """Seconds that it took. Raises RuntimeError if it failed or does not end."""
        begin = time.perf_counter()
        os.write(self._next, f"{line}\n".encode())
        answered, _, _ = select.select([self._done], [], [], _WITHIN)
        seconds = time.perf_counter() - begin
        if not answered:
            raise RuntimeError(f"{line}: no end within {_WITHIN:g} s; is the container still there?")
        if os.read(self._done, 100) != b"0\n":
            raise RuntimeError(f"{line}:\n{self.output()}")
        return seconds

    def output(self) -> str:
        """What the last line wrote."""
        return (self._folder / "output").read_text()

    def close(self) -> None:
        """Let go of the pipes."""
        os.close(self._next)
        os.close(self._done)
