"""What BuildKit tells of its work, as a log for people, and as the steps and base images of the record. Pure.

The messages are those of `docker buildx build --progress rawjson`: BuildKit's SolveStatus (client/graph.go), one JSON
object after another, each on one line or on several.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent import references
from agent.build_log.masking import Masker
from agent.builds import BaseImage, ImageStep
from agent.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Status = dict[str, Any]

_FROM = re.compile(r"^(?:\[[^\]]*\] )?FROM (\S+)")
_LOAD = re.compile(r"^\[internal\] load metadata for (\S+)$")
_INTERNAL = "[internal]"
_CANCELED = "context canceled"


@dataclass(slots=True)
class _Vertex:
    name: str
    number: int = 0  # in the order in which they begin
    started: str | None = None
    completed: str | None = None
    cached: bool = False
    error: str = ""
    told: bool = False  # its end was written
    line: bytes = b""  # the beginning of a line of its output
    shown: set[str] = field(default_factory=set)  # transfers whose end was written


class Messages:
    """Takes the program's lines, and gives whole messages; what is none is kept in `rest`, newest last."""

    _MOST_REST = 50

    def __init__(self) -> None:
        self.rest: list[str] = []
        self._lines: list[bytes] = []

    def feed(self, line: bytes) -> Status | None:
        """The message that ends with this line, if one does."""
        if not self._lines and not line.startswith(b"{"):
            if text := line.decode("utf-8", "replace").rstrip():
                self.rest = [*self.rest[1 - self._MOST_REST :], text]
            return None
        self._lines.append(line)
        if not line.rstrip().endswith(b"}") or (len(self._lines) > 1 and line.rstrip() != b"}"):
            return None
        try:
            message: Status = json.loads(b"".join(self._lines))
        except ValueError:
            return None  # it goes on
        self._lines = []
        return message


class Masked:
    """Messages whose output of steps is masked; in them it is base64, where a log's own masking finds nothing."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = tuple(secrets)
        self._maskers: dict[str, Masker] = {}

    def of(self, status: Status) -> Status:
        """The message as it may be seen; what may be the beginning of a secret comes with a later one."""
        if not self._secrets:
            return status
        logs = [{**log, "data": self._fed(log)} for log in status.get("logs") or ()]
        for vertex in status.get("vertexes") or ():
            rest = self._maskers[vertex["digest"]].flush()[0] if vertex["digest"] in self._maskers else b""
            if vertex.get("completed") and rest:
                data = base64.b64encode(rest).decode()
                logs.append({"vertex": vertex["digest"], "data": data, "timestamp": vertex["completed"]})
        return {**status, "logs": logs} if logs else status

    def _fed(self, log: Status) -> str:
        masker = self._maskers.setdefault(log["vertex"], Masker(self._secrets))
        return base64.b64encode(masker.feed(base64.b64decode(log.get("data") or ""))[0]).decode()


class Progress:
    """One build as far as it was told of."""

    def __init__(self) -> None:
        self._vertices: dict[str, _Vertex] = {}
        self._begun = 0

    def take(self, status: Status) -> bytes:
        """What is to be written of this message, in whole lines."""
        written = [
            *(line for vertex in status.get("vertexes") or () for line in self._vertex(vertex)),
            *(line for transfer in status.get("statuses") or () for line in self._transfer(transfer)),
            *(line for log in status.get("logs") or () for line in self._log(log)),
            *(line for warning in status.get("warnings") or () for line in self._warning(warning)),
            *(line for vertex in status.get("vertexes") or () for line in self._end(vertex)),
        ]
        return b"".join(line + b"\n" for line in written)

    def steps(self) -> tuple[ImageStep, ...]:
        """The steps that began, in that order, without BuildKit's own."""
        begun = sorted(
            (each for each in self._vertices.values() if each.number and not each.name.startswith(_INTERNAL)),
            key=lambda each: (each.started or "", each.number),
        )
        return tuple(
            ImageStep(name=each.name, cached=each.cached, seconds=round(_seconds(each.started, each.completed), 3))
            for each in begun
        )

    def bases(self) -> tuple[BaseImage, ...]:
        """The images that it started from or copied from, with what their names meant."""
        found: dict[str, str | None] = {}
        for vertex in self._vertices.values():
            match = _FROM.match(vertex.name) or _LOAD.match(vertex.name)
            if match is None or match[1] == "scratch":
                continue
            name, _, digest = match[1].partition("@")
            try:
                reference = references.parse(name)
            except InvalidRequest:
                continue  # a stage of the Dockerfile
            if reference.domain == references.PRIVATE:
                continue  # one of the caller's own, which was named before
            found[str(reference)] = digest or found.get(str(reference))
        return tuple(BaseImage(reference=name, digest=digest) for name, digest in found.items())

    def _vertex(self, told: Status) -> Iterator[bytes]:
        vertex = self._vertices.get(told["digest"])
        if vertex is None:
            vertex = self._vertices[told["digest"]] = _Vertex(told["name"])
        vertex.started = vertex.started or told.get("started")
        vertex.completed = told.get("completed")
        vertex.cached = told.get("cached", False)
        vertex.error = told.get("error", "")
        if not vertex.number and (vertex.started or vertex.cached):
            self._begun += 1
            vertex.number = self._begun
            yield b""
            yield _line(vertex, vertex.name)

    def _end(self, told: Status) -> Iterator[bytes]:
        vertex = self._vertices[told["digest"]]
        if vertex.told or (not vertex.completed and not vertex.cached):
            return
        if vertex.line:
            yield vertex.line
            vertex.line = b""
        vertex.told = True
        if vertex.error:
            yield _line(vertex, "CANCELED" if vertex.error.endswith(_CANCELED) else f"ERROR: {vertex.error}")
        elif vertex.cached:
            yield _line(vertex, "CACHED")
        else:
            yield _line(vertex, f"DONE {_seconds(vertex.started, vertex.completed):.1f}s")

    def _transfer(self, told: Status) -> Iterator[bytes]:
        vertex = self._vertices.get(told["vertex"])
        if vertex is not None and told.get("completed") and told["id"] not in vertex.shown:
            vertex.shown.add(told["id"])
            size = f" {_size(told['current'])}" if told.get("current") else ""
            seconds = _seconds(told.get("started"), told["completed"])
            yield _line(vertex, f"{told['id'].rstrip(':')}{size} {seconds:.1f}s done")

    def _log(self, told: Status) -> Iterator[bytes]:
        vertex = self._vertices.get(told["vertex"])
        if vertex is None:
            return
        seconds = _seconds(vertex.started, told.get("timestamp"))
        *whole, last = base64.b64decode(told.get("data") or "").split(b"\n")
        for text in whole:
            begun = vertex.line or f"#{vertex.number} {seconds:.3f} ".encode()
            vertex.line = b""
            # A carriage return draws over the line; what was drawn last is what is to be seen.
            yield begun + text.rstrip(b"\r").rpartition(b"\r")[2]
        if last:
            vertex.line = (vertex.line or f"#{vertex.number} {seconds:.3f} ".encode()) + last

    @staticmethod
    def _warning(told: Status) -> Iterator[bytes]:
        yield b"WARNING: " + base64.b64decode(told.get("short") or "")


def _line(vertex: _Vertex, text: str) -> bytes:
    return f"#{vertex.number} {text}".encode("utf-8", "surrogateescape")


def _seconds(begin: str | None, end: str | None) -> float:
    """Between two moments of Go's, which have nine digits below the second where Python takes six."""
    if begin is None or end is None:
        return 0.0
    return max(0.0, (_moment(end) - _moment(begin)).total_seconds())


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return f"{count}B"
