"""The log as server-sent events: who wrote what, when; and the lines made of them, each with its time."""

from __future__ import annotations

import re
from typing import NamedTuple

from api.client import times

_COLOURS = {"stderr": "\x1b[31m", "sibling": "\x1b[36m"}
_RESET = "\x1b[0m"
_LINES = re.compile(r"[^\n]*\n|[^\n]+")


class Event(NamedTuple):
    """One event. `position` is its id, the log's byte offset after it; 0 if it has none, as `end` may not."""

    name: str
    position: int
    data: str


class EventParser:
    """Events out of a stream that is cut anywhere (WHATWG HTML, 9.2.6; lines end in LF or CR LF)."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [event for line in lines if (event := self._line(line.rstrip(b"\r").decode("utf-8", "replace")))]

    def _line(self, line: str) -> Event | None:
        name, _, value = line.partition(":")
        if not line:
            return self._end()
        value = value.removeprefix(" ")
        if name == "data" and "data" in self._fields:
            value = f"{self._fields['data']}\n{value}"
        self._fields[name] = value  # a comment's name is empty, and nobody asks for it
        return None

    def _end(self) -> Event | None:
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        return Event(fields.get("event", "message"), int(fields.get("id", 0)), fields["data"])


class Stamper:
    """Pieces of the log as text with one time at the start of every line; lines of different streams are kept apart."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = _COLOURS if colours else {}
        self._open: str | None = None  # the stream whose line has not ended yet

    def __call__(self, text: str, stream: str, at: str) -> str:
        """The piece as it is shown; `at` is its RFC 3339 time."""
        colour = self._colours.get(stream, "")
        shown = []
        if self._open not in (None, stream):
            shown.append("\n")
            self._open = None
        for line in _LINES.findall(text):
            time = "" if self._open else f"{times.clock(at)} "
            content = line.rstrip("\n")
            shown.append(f"{time}{colour}{content}{_RESET if colour else ''}{line[len(content) :]}")
            self._open = None if line.endswith("\n") else stream
        return "".join(shown)
