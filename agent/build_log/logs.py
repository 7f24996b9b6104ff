"""The folder of all logs, and its readers: by byte offset, as many as there are, none of which slows a build."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from agent.build_log import BuildLog
from agent.build_log import index as log_index
from agent.build_log.index import END
from agent.engine import Stream
from agent.errors import StartBeyondEnd

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable
    from pathlib import Path

PIECE = 256 * 1024
ENTRY = 64 * 1024


class LogPart(NamedTuple):
    """A part of a log; `end` is the offset after it, `complete` says that nothing will ever follow it."""

    data: bytes
    end: int
    complete: bool


class LogEntry(NamedTuple):
    """A piece of a log that one stream wrote at one time, in nanoseconds since the epoch; `end` as in `LogPart`."""

    end: int
    stream: Stream
    at_ns: int
    data: bytes


class BuildLogs:
    """All logs. Followers live in one event loop; writers may be in any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._live: dict[str, BuildLog] = {}
        self._waiting: dict[str, asyncio.Event] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, build_id: str, *, secrets: Iterable[str], max_bytes: int) -> BuildLog:
        """The build's log to write to, new or as a crash left it."""
        log = BuildLog(
            self._path(build_id), secrets=secrets, max_bytes=max_bytes, on_growth=lambda: self._grown(build_id)
        )
        self._live[build_id] = log
        self._grown(build_id)
        return log

    def size(self, build_id: str) -> int:
        """Bytes that are there now; 0 without a log."""
        return self._state(build_id)[0]

    def complete(self, build_id: str) -> bool:
        """Whether nothing will follow what is there."""
        return self._state(build_id)[1]

    def read(self, build_id: str, start: int, limit: int) -> LogPart:
        """At most `limit` bytes from offset `start`. Raises StartBeyondEnd."""
        size, complete = self._state(build_id)
        if start > size:
            raise StartBeyondEnd(f"the log of build {build_id} has {size} bytes so far, and nothing at {start}")
        data = b""
        if limit and start < size:
            with self._path(build_id).open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), min(limit, size - start), start)
        end = start + len(data)
        return LogPart(data, end, complete and end == size)

    async def follow(self, build_id: str, start: int) -> AsyncGenerator[bytes]:
        """The log from `start`, piece by piece as it is written, until it is complete. Raises StartBeyondEnd."""
        while True:
            grown = self._next_growth(build_id)
            part = self.read(build_id, start, PIECE)
            start = part.end
            if part.data:
                yield part.data
            elif part.complete:
                self._waiting.pop(build_id, None)  # nothing will grow any more
                return
            else:
                await grown.wait()

    async def entries(self, build_id: str, start: int) -> AsyncGenerator[LogEntry]:
        """As `follow`, in pieces that each are of one stream and one moment, at most 64 KiB each."""
        while True:
            grown = self._next_growth(build_id)
            size, complete = self._state(build_id)
            if start > size:
                raise StartBeyondEnd(f"the log of build {build_id} has {size} bytes so far, and nothing at {start}")
            if start < size:
                for entry in self._entries_now(build_id, start, size):
                    yield entry
                start = size
            elif complete:
                self._waiting.pop(build_id, None)
                return
            else:
                await grown.wait()

    def delete(self, build_id: str) -> None:
        """Remove the log of a finished build."""
        path = self._path(build_id)
        path.unlink(missing_ok=True)
        log_index.path_of(path).unlink(missing_ok=True)

    def _entries_now(self, build_id: str, start: int, size: int) -> Iterable[LogEntry]:
        path = self._path(build_id)
        with path.open("rb", buffering=0) as log, log_index.path_of(path).open("rb", buffering=0) as index:
            for record in log_index.records_from(index.fileno(), start):
                if record.end > size:
                    return
                while start < record.end:
                    data = _whole_characters(os.pread(log.fileno(), min(ENTRY, record.end - start), start))
                    start += len(data)
                    yield LogEntry(start, Stream(record.stream), record.at_ns, data)

    def _state(self, build_id: str) -> tuple[int, bool]:
        """The size that readers may see, and whether it is the last."""
        log = self._live.get(build_id)
        if log is not None:
            complete = log.complete  # read first: the size is final once it is true
            return log.size, complete
        try:
            descriptor = os.open(log_index.path_of(self._path(build_id)), os.O_RDONLY)
        except FileNotFoundError:
            return 0, False
        with closing(os.fdopen(descriptor, "rb", buffering=0)):
            last = log_index.last(descriptor)
        return last.end, last.stream == END

    def _next_growth(self, build_id: str) -> asyncio.Event:
        """The event of the next growth. Take it before looking, so that none is missed."""
        self._loop = asyncio.get_running_loop()
        return self._waiting.setdefault(build_id, asyncio.Event())

    def _grown(self, build_id: str) -> None:
        """Wake the followers; one call per wake-up, however much is written until the loop comes to it."""
        log = self._live.get(build_id)
        if log is not None and log.complete:
            self._live.pop(build_id, None)
        event = self._waiting.pop(build_id, None)
        if event is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(event.set)

    def _path(self, build_id: str) -> Path:
        """Ids begin with the time: a folder holds about three days."""
        return self._folder / build_id[:4] / f"{build_id}.log"


def _whole_characters(data: bytes) -> bytes:
    """Without the beginning of a UTF-8 character at its end, if there is more before that."""
    for back in range(1, min(4, len(data))):
        byte = data[-back]
        if byte >= 0xC0:  # the first byte of a character of 2 to 4
            length = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return data[:-back] if length > back else data
        if byte < 0x80:
            break
    return data
