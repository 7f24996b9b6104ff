"""The log of one build while it is written: an append-only file, an index beside it, and nothing lost by a crash.

Order of a write: the bytes, then the index record, then readers are told. So a kill at any moment leaves at most bytes
without a record, which are cut off when the log is opened again: what a reader has seen never changes, and `raw` says
exactly how much of the container's output the log holds. `logs` is the readers' side.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from agent.build_log import index as log_index
from agent.build_log.index import END, Record
from agent.build_log.masking import Masker
from agent.engine import Stream
from agent.errors import LogFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from agent.engine import OutputSink

PREFIX = "[sibling] "
_LIMIT = "the log's limit of"


class BuildLog:
    """One writer at a time; any thread. `size` is what readers may see, `complete` that nothing will follow."""

    def __init__(self, path: Path, *, secrets: Iterable[str], max_bytes: int, on_growth: Callable[[], None]) -> None:
        """Open it, or open it again after a crash. `max_bytes` is the most of the container's output that is kept."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._name = path.stem
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._index = os.open(log_index.path_of(path), os.O_RDWR | os.O_CREAT, 0o600)
        self._max = max_bytes
        self._on_growth = on_growth
        self._lock = threading.Lock()
        secrets = tuple(secrets)
        self._maskers = {stream: Masker(secrets) for stream in Stream}
        last = log_index.last(self._index)
        log_index.cut_torn(self._index)
        os.ftruncate(self._file, last.end)
        for descriptor in (self._file, self._index):
            os.lseek(descriptor, 0, os.SEEK_END)
        self.size = last.end
        self.complete = last.stream == END
        # Beyond the limit there are lines of ours only.
        beyond = os.pread(self._file, max(0, last.end - max_bytes), max_bytes)
        self._limit_told = f"{PREFIX}{_LIMIT}".encode() in beyond
        self._raw = {Stream.STDOUT: last.stdout, Stream.STDERR: last.stderr}

    @property
    def raw(self) -> Mapping[Stream, int]:
        """How many bytes of each of the container's streams the log stands for, before masking."""
        return self._raw

    def write(self, stream: Stream, data: bytes | memoryview) -> None:
        """Append output of the container; an `OutputSink`. Raises LogFailed."""
        with self._lock:
            self._append(stream, *self._maskers[stream].feed(data))

    def replay_sink(self) -> OutputSink:
        """A sink for the container's output from its first byte: drops what the log has, writes the rest."""
        for masker in self._maskers.values():
            masker.flush()  # held back, so not counted: it comes again
        skip = dict(self._raw)

        def write(stream: Stream, data: bytes | memoryview) -> None:
            dropped = min(skip[stream], len(data))
            skip[stream] -= dropped
            if dropped < len(data):
                self.write(stream, memoryview(data)[dropped:])

        return write

    def note(self, text: str) -> None:
        """A line of our own, after whatever the container wrote last. Raises LogFailed."""
        with self._lock:
            self._store(self._line(text), [self._ours()])

    def tail(self, size: int) -> bytes:
        """The last `size` bytes that readers may see, while the log is written."""
        with self._lock:
            return os.pread(self._file, size, max(0, self.size - size))

    def finish(self, note: str | None = None) -> None:
        """End the log, with a last line if there is one; once. Raises LogFailed, and is complete all the same."""
        with self._lock:
            if self._file < 0:
                return
            try:
                if not self.complete:
                    self._finish(note)
            finally:
                self.complete = True
                os.close(self._file)
                os.close(self._index)
                self._file = self._index = -1
                self._on_growth()

    def _finish(self, note: str | None) -> None:
        for stream in (Stream.STDOUT, Stream.STDERR):
            self._append(stream, *self._maskers[stream].flush())
        # One write for both records: after a crash the last line is there once, or not at all and comes again.
        records = [self._ours(), self._record(END)] if note else [self._record(END)]
        self._store(self._line(note) if note else b"", records)

    def _append(self, stream: Stream, text: bytes | memoryview, consumed: int) -> None:
        if not consumed:
            return
        room = max(0, self._max - self.size)
        before = self._raw[stream]
        self._raw[stream] += consumed
        try:
            self._keep(stream, text, room)
        except LogFailed:
            self._raw[stream] = before
            raise

    def _keep(self, stream: Stream, text: bytes | memoryview, room: int) -> None:
        if len(text) <= room:
            self._store(text, [self._record(stream)])
            return
        if room:
            self._store(text[:room], [self._record(stream)])
        if not self._limit_told:
            self._store(self._line(f"{_LIMIT} {self._max} bytes is reached; further output is dropped"), [self._ours()])
            self._limit_told = True

    def _ours(self) -> Record:
        return self._record(Stream.SIBLING)

    def _record(self, stream: int) -> Record:
        return Record(0, time.time_ns(), self._raw[Stream.STDOUT], self._raw[Stream.STDERR], stream)

    def _line(self, text: str) -> bytes:
        fresh = self.size == 0 or os.pread(self._file, 1, self.size - 1) == b"\n"
        line = f"{'' if fresh else chr(10)}{PREFIX}{text}\n".encode("utf-8", "replace")
        return self._maskers[Stream.SIBLING].whole(line)

    def _store(self, text: bytes | memoryview, records: list[Record]) -> None:
        """Write the bytes, then their records, then tell the readers."""
        end = self.size + len(text)
        try:
            _write_all(self._file, text)
            _write_all(self._index, b"".join(record._replace(end=end).pack() for record in records))
        except OSError as error:
            os.ftruncate(self._file, self.size)
            os.lseek(self._file, 0, os.SEEK_END)
            log_index.cut_torn(self._index)
            os.lseek(self._index, 0, os.SEEK_END)
            raise LogFailed(f"the log of build {self._name} could not be written: {error.strerror}") from error
        self.size = end
        self._on_growth()


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
