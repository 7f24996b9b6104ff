"""An image's build as steps, from BuildKit's status messages (SolveStatus of github.com/moby/buildkit, as rawjson)."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections import deque

from api.client import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

KEPT_LINES = 200  # of a step's output, for the case that it fails
# Escape sequences would move the cursor of whoever shows the line; other control characters as well.
_CONTROL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_LONGEST_LINE = 4096  # characters of a line that does not end


class Part:
    """Something within a step that counts: a transfer, a layer. Sizes are in bytes, 0 if unknown."""

    def __init__(self, status: Mapping[str, Any]) -> None:
        self.name = plain(status.get("id") or status.get("name") or "")
        self.current: int = status.get("current") or 0
        self.total: int = status.get("total") or 0
        self.ended = bool(status.get("completed"))


class Step:
    """A vertex of BuildKit's graph. `begun` is our clock's, in seconds, since the service's may differ."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cached = False
        self.error = ""
        self.begun: float | None = None
        self.seconds: float | None = None  # once it is done
        self.completed = ""  # when that was, RFC 3339
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.parts: dict[str, Part] = {}
        self._open = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self.begun is not None and self.seconds is None

    def take(self, vertex: Mapping[str, Any], now: float) -> None:
        """What BuildKit says of it; it may start again after its end, as when a layer is fetched at last."""
        self.cached = bool(vertex.get("cached"))
        self.error = vertex.get("error") or ""
        started, completed = vertex.get("started"), vertex.get("completed")
        if started and completed:
            self.seconds, self.completed = times.between(started, completed), completed
            self.begun = now if self.begun is None else self.begun
        elif started and not self.running:
            self.begun, self.seconds = now, None

    def write(self, data: bytes) -> None:
        """More of its output."""
        *lines, rest = (self._open + self._decode(data)).split("\n")
        self.lines.extend(map(_overwritten, lines))
        self._open = rest[-_LONGEST_LINE:]

    def output(self) -> list[str]:
        """The last lines, with the one that has not ended yet."""
        return [*self.lines, *([_overwritten(self._open)] if self._open else [])]


class Steps:
    """All steps so far. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_digest: dict[str, Step] = {}
        self.warnings: list[str] = []

    def __iter__(self) -> Iterator[Step]:
        return iter(self._by_digest.values())

    def take(self, message: Mapping[str, Any]) -> None:
        """One message. Raises ValueError, TypeError, KeyError or AttributeError if it is none of BuildKit's."""
        now = self._clock()
        for vertex in message.get("vertexes") or ():
            step = self._by_digest.setdefault(vertex["digest"], Step(plain(vertex.get("name") or "")))
            step.take(vertex, now)
        for status in message.get("statuses") or ():
            if step_of := self._by_digest.get(status["vertex"]):
                step_of.parts[status["id"]] = Part(status)
        for log in message.get("logs") or ():
            if step_of := self._by_digest.get(log["vertex"]):
                step_of.write(_bytes(log["data"]))
        for warning in message.get("warnings") or ():
            self.warnings.append(plain(_bytes(warning["short"]).decode("utf-8", "replace")))


def plain(text: str) -> str:
    """The text as it can stand in a line."""
    return _CONTROL.sub("", text).replace("\n", " ").expandtabs()


def _overwritten(line: str) -> str:
    """What a terminal would show of it in the end."""
    return plain(line.rstrip("\r").rsplit("\r", 1)[-1])


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{text!r} is not base64") from error
