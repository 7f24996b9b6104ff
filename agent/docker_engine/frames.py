"""The byte streams that carry a container's output, taken apart as they come. Pure; serves `stream`."""

from __future__ import annotations

import re
from struct import Struct
from typing import TYPE_CHECKING

from agent.engine import OutputSink, Stream
from agent.errors import EngineError, EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HEADER = Struct(">II")
_COMPLAINT = 3 << 24  # stdcopy's Systemerr: the engine's own words in the place of output
_STREAMS = {1 << 24: Stream.STDOUT, 2 << 24: Stream.STDERR}
_CHUNK_START = re.compile(rb"(?:\r\n)?([0-9A-Fa-f]{1,16})[^\n]{0,80}\n")
_LONGEST_CHUNK_START = 100


class FrameDecoder:
    """Takes Docker's stream format apart: frames of a stream's number, three zero bytes, a length, and so many bytes.

    `write` is called once per run of one stream in what is fed, with the very memory if the run is one piece, so that
    neither big frames nor many tiny ones cost much.
    """

    def __init__(self, write: OutputSink) -> None:
        self._write = write
        self._word = -1  # the first half of the last header: the stream's number
        self._left = 0  # bytes of its frame still to come
        self._rest = b""  # the start of a header
        self._run: list[memoryview] = []
        self._complaint = b""

    @property
    def whole(self) -> bool:
        """Whether what was fed so far ends where a frame ends."""
        return not self._left and not self._rest

    def feed(self, pieces: Iterable[memoryview]) -> None:
        """Take what came, cut anywhere. Raises EngineError if it is no frame, or is a complaint of the engine's."""
        for piece in pieces:
            self._take(piece)
        self._flush()

    def _take(self, data: memoryview) -> None:
        if self._rest:
            data, self._rest = memoryview(b"".join((self._rest, data))), b""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                payload = data[at : at + self._left]
                self._run.append(payload)
                self._left -= len(payload)
                at += len(payload)
            elif end - at >= _HEADER.size:
                self._begin(*_HEADER.unpack_from(data, at))
                at += _HEADER.size
            else:
                self._rest = bytes(data[at:])
                return

    def _begin(self, word: int, size: int) -> None:
        if word != self._word:
            if word != _COMPLAINT and word not in _STREAMS:
                raise EngineError(f"the engine sent {word:#010x} where a frame of output should begin")
            self._flush()
            self._word = word
        self._left = size

    def _flush(self) -> None:
        if not self._run:
            return
        data = self._run[0] if len(self._run) == 1 else b"".join(self._run)
        self._run.clear()
        if self._word != _COMPLAINT:
            self._write(_STREAMS[self._word], data)
            return
        self._complaint += data
        if not self._left:
            raise EngineError(f"the engine broke the output off: {self._complaint.decode(errors='replace').strip()}")


class ChunkDecoder:
    """Takes an HTTP/1.1 chunked body apart (RFC 9112, 7.1).

    The engine sends every line of a log as a chunk of its own, and http.client would read each by itself.
    """

    def __init__(self) -> None:
        self.ended = False  # the last chunk came: the body is whole
        self._left = 0
        self._rest = b""

    def feed(self, data: memoryview) -> Iterator[memoryview]:
        """The content in what came, piece by piece. Raises EngineUnavailable if it is no chunked body."""
        if self._rest:
            data, self._rest = memoryview(b"".join((self._rest, data))), b""
        at = 0
        while at < len(data) and not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                self._left -= len(piece)
                at += len(piece)
                yield piece
            elif start := _CHUNK_START.match(data, at):
                self._left = int(start[1], 16)
                self.ended = not self._left
                at = start.end()
            else:
                self._rest = bytes(data[at:])
                if len(self._rest) > _LONGEST_CHUNK_START:
                    raise EngineUnavailable("the engine's answer broke: what came is no chunk of HTTP/1.1")
                return
