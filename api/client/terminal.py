"""What the person sees: notices, the status line, tables, colours; and standard output, byte by byte."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from typing import TYPE_CHECKING

from api.client.errors import OutputClosed

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTPUT, MESSAGES = 1, 2
_CLEAR = "\r\x1b[K"


def coloured(descriptor: int) -> bool:
    """Whether colours may be written there: on a terminal, unless the person said no (no-color.org)."""
    return os.isatty(descriptor) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def write(descriptor: int, data: bytes) -> None:
    """Write all of `data` unbuffered; raises OutputClosed."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # noqa: PERF203 - a program that shares the descriptor made it non-blocking
            select.select([], [descriptor], [])
        except OSError as error:
            raise OutputClosed(error) from error


def output(data: bytes) -> None:
    """Write to standard output; raises OutputClosed."""
    write(OUTPUT, data)


class Screen:
    """Standard error: lines that stay and, on a terminal only, one status line that is written over.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self.live = os.isatty(MESSAGES) and os.environ.get("TERM") != "dumb"
        self._lock = threading.RLock()  # reentrant: a signal handler may speak while its own thread does
        self._shown = False

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self._write(f"[sibling] {text}\n")

    def status(self, text: str) -> None:
        """Replace the status line; nothing if standard error is no terminal."""
        if self.live:
            with self._lock:
                width = os.get_terminal_size(MESSAGES).columns or 80
                self._write(f"[sibling] {text}"[: width - 1])
                self._shown = True

    def clear(self) -> None:
        """Take the status line away."""
        if self._shown:
            self._write("")

    def _write(self, text: str) -> None:
        with self._lock:
            before = _CLEAR if self._shown else ""
            self._shown = False
            # Nobody is left to be told when standard error is closed, and the build matters more.
            with contextlib.suppress(OutputClosed):
                write(MESSAGES, (before + text).encode("utf-8", "replace"))


def size(count: int) -> str:
    """Bytes in powers of 1000, as `ls -h --si` and disk makers count: `812 B`, `3.4 MB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.1f} {unit}" if unit != "B" else f"{count} B"
        amount /= 1000
    return f"{amount:.1f} GB"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (head, *rows))
    return "".join(f"{line}\n" for line in lines)
