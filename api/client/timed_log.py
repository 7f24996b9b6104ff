"""Following a build's log as lines, each with its time."""

from __future__ import annotations

import contextlib
import json

from api.client.connection import build_path
from api.client.events import EventParser, Stamper
from api.client.log_stream import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from api.client.connection import Connection
    from api.client.events import Event


class TimedLog(Log):
    """The log as lines, each with its time; in colours if asked for."""

    def __init__(self, connection: Connection, build_id: str, write: Callable[[bytes], None], *, colours: bool) -> None:
        super().__init__(connection, build_id, write)
        self._stamp = Stamper(colours=colours)
        self._parser = EventParser()

    def catch_up(self) -> None:
        """Hand over what is there now; raises ClientError."""
        end = self._connection.json("GET", build_path(self._id))["log_size"]
        with contextlib.closing(self._connection.stream(self._request)) as stream:
            while self.offset < end and (data := next(stream, b"")):
                self._take(data)

    def _request(self) -> tuple[str, Mapping[str, str]]:
        self._parser = EventParser()  # an event that the loss cut in two comes again, whole
        return build_path(self._id, "log", start=self.offset), {"Accept": "text/event-stream"}

    def _take(self, data: bytes) -> None:
        for event in self._parser.feed(data):
            if event.name == "log":
                self._show(event)

    def _show(self, event: Event) -> None:
        piece = json.loads(event.data)
        self._write(self._stamp(piece["text"], piece["stream"], piece["at"]).encode("utf-8", "replace"))
        self.offset = event.position
