"""What the person sees: notices, the status line, tables, colours; and standard output, byte by byte."""

from __future__ import annotations

import contextlib
import os
import select
import threading

from api.client.errors import OutputClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

OUTPUT, MESSAGES = 1, 2
_CLEAR = "\r\x1b[K"
_UP = "\x1b[1A"


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
    """Standard error: lines that stay and, on a terminal only, last lines that are written over.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self.live = os.isatty(MESSAGES) and os.environ.get("TERM") != "dumb"
        self._lock = threading.RLock()  # reentrant: a signal handler may speak while its own thread does
        self._shown = 0  # how many lines are to be written over

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return _window().columns or 80

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self._write([f"[sibling] {text}"], [])

    def status(self, text: str) -> None:
        """Replace the status line; nothing if standard error is no terminal."""
        self.show([f"[sibling] {text}"])

    def show(self, lines: Sequence[str], above: Sequence[str] = ()) -> None:
        """Replace the last lines, after those that stay `above` them; nothing if standard error is no terminal."""
        if self.live:
            window = _window()
            last = [cut(line, (window.columns or 80) - 1) for line in lines[: (window.lines or 24) - 1]]
            self._write(above, last)

    def clear(self) -> None:
        """Take the status line away."""
        if self._shown:
            self._write([], [])

    def _write(self, lines: Sequence[str], last: Sequence[str]) -> None:
        with self._lock:
            before = _CLEAR + (_UP + _CLEAR) * (self._shown - 1) if self._shown else ""
            text = "".join(f"{line}\n" for line in lines) + "\n".join(last)
            self._shown = len(last)
            # Nobody is left to be told when standard error is closed, and the build matters more.
            with contextlib.suppress(OutputClosed):
                write(MESSAGES, (before + text).encode("utf-8", "replace"))


def columns(descriptor: int) -> int:
    """How wide to write there: what COLUMNS says, or the terminal, or else 80."""
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isdecimal() and int(given) else _window(descriptor).columns or 80


def _window(descriptor: int = MESSAGES) -> os.terminal_size:
    try:
        return os.get_terminal_size(descriptor)
    except OSError:  # it was hung up
        return os.terminal_size((0, 0))


def width_of(text: str) -> int:
    """Columns that the text takes on a terminal: East Asian characters two, combining ones none."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)


def cut(text: str, width: int) -> str:
    """As much of the text as goes into so many columns."""
    width = max(width, 0)
    text = text[:width]
    while width_of(text) > width:
        text = text[:-1]
    return text


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
