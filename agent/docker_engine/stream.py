"""Connections to the engine that live long: containers' output, and whatever must be ended from another thread.

Serves `calls`. The SDK's own `attach_socket` loses what comes right behind the answer's head, and its reads
cannot be ended.
"""

from __future__ import annotations

import http.client
import socket
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread

from agent.docker_engine.frames import ChunkDecoder, FrameDecoder
from agent.docker_engine.wire import API_VERSION, refusal
from agent.errors import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent.engine import OutputSink

# A Unix socket never holds more than its sender's buffer: 208 KiB, unless the host was tuned.
_READ_SIZE = 256 * 1024
# The kernel doubles it, so that MAX_STDIN bytes fit that the engine has not read yet. It is Linux's own limit for those
# who may not raise it (net.core.wmem_max).
_SEND_BUFFER = 212_992
MAX_STDIN = 400_000


class Connection(http.client.HTTPConnection):
    """One connection to the engine's Unix socket for one thing to do, which any thread can end.

    `doing` completes "could not ..." in errors; `timeout`, in seconds, bounds each read and write.
    """

    response: http.client.HTTPResponse

    def __init__(self, path: str, doing: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path
        self._doing = doing
        # Kept beside `sock`, which http.client closes and forgets when an answer says `Connection: close`.
        self._wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._open = ExitStack()

    def connect(self) -> None:
        """Connect; http.client calls it. Raises OSError."""
        self._wire.settimeout(self.timeout)
        self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._wire.connect(self._path)
        self.sock = self._wire

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> None:
        """Send a request and read the head of its answer. Raises EngineUnavailable, Refused."""
        try:
            self.request(method, f"/v{API_VERSION}{path}", body, headers or {})
            self.response = self._open.enter_context(closing(self.getresponse()))
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailable(
                f"could not {self._doing}: no answer from the engine at {self._path} ({error})"
            ) from error
        if self.response.status >= http.HTTPStatus.BAD_REQUEST:
            raise refusal(self._doing, self.response.status, self.read())

    def read(self, size: int | None = None) -> bytes:
        """The answer's body, or its first `size` bytes. Raises EngineUnavailable if it is cut off."""
        try:
            return self.response.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise self.broken(error) from error

    def lines(self) -> Iterator[bytes]:
        """The answer's body line by line, as it comes. Raises EngineUnavailable if it is cut off."""
        try:
            yield from self.response
        except (OSError, http.client.HTTPException) as error:
            raise self.broken(error) from error

    def send_all(self, data: bytes) -> None:
        """Send what a hijacked connection carries to the engine, and that it was all. Raises EngineUnavailable."""
        try:
            self._wire.sendall(data)
            self._wire.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self.broken(error) from error

    def wait_forever(self) -> None:
        """Bound nothing from now on."""
        self.timeout = None
        self._wire.settimeout(None)

    def broken(self, why: object) -> EngineUnavailable:
        """The error to raise when the answer had begun."""
        return EngineUnavailable(f"could not {self._doing} to the end: {why}")

    def cut(self) -> None:
        """Break it from any thread; a read under way in another ends at once."""
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Break it and let go of it, when nobody needs what a read under way still gives."""
        self.cut()
        self._open.close()
        self.close()
        self._wire.close()


class DockerStream:
    """An `OutputStream`: the body of an attach, which is bare frames, or of logs, which is frames in HTTP chunks."""

    def __init__(self, connection: Connection, limiter: CapacityLimiter) -> None:
        self._connection = connection
        # The very buffer that the head was read through: it may hold the first frames.
        self._reader = connection.response.fp
        self._chunks = ChunkDecoder() if connection.response.chunked else None
        self._limiter = limiter
        self._closed = False

    async def pump(self, write: OutputSink) -> None:
        """Read to the end; see `OutputStream`."""
        try:
            await to_thread.run_sync(self._read, write, abandon_on_cancel=True, limiter=self._limiter)
        finally:
            self.close()

    def close(self) -> None:
        """End the stream now."""
        self._closed = True
        self._connection.end()

    def _read(self, write: OutputSink) -> None:
        frames = FrameDecoder(write)
        while data := self._receive():
            frames.feed(self._content(memoryview(data)))
        if not self._closed and not (frames.whole and (self._chunks is None or self._chunks.ended)):
            raise self._connection.broken("the engine's answer was cut off")

    def _content(self, data: memoryview) -> Iterable[memoryview]:
        return (data,) if self._chunks is None else self._chunks.feed(data)

    def _receive(self) -> bytes:
        """What came, at least a byte; nothing at the end."""
        if self._chunks is not None and self._chunks.ended:
            return b""
        try:
            # Not readinto1, which holds back what is buffered until it has read some more.
            return self._reader.read1(_READ_SIZE)
        except (OSError, ValueError) as error:  # ValueError: closed by another thread
            if self._closed:
                return b""
            raise self._connection.broken(error) from error
