"""Requests of our own to the engine: each on a connection of its own, so that none can answer for another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import h11

from agent.errors import EngineError, EngineUnavailable, InvalidRequest
from agent.gate.chunks import split
from agent.gate.exchange import API_VERSION, CHUNK
from agent.unix_socket import tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from agent.gate.exchange import Exchange

    Pairs = Mapping[str, str] | Sequence[tuple[str, str]]

_CONNECT = 10.0  # seconds
_CUT = "the engine hung up in the middle of its answer"
_MAX_ANSWER = 128 * 1024 * 1024  # bytes of an answer that is read as a whole
Body = bytes | None
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Answer:
    """The engine's whole answer."""

    status: int
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether it did what was asked."""
        return self.status < 400

    def json(self) -> Any:
        """Its JSON."""
        return json.loads(self.content or b"null")

    def done(self) -> Answer:
        """The same; raises EngineError if it is a refusal, InvalidRequest if the engine did not understand."""
        if self.status == HTTPStatus.BAD_REQUEST:
            raise InvalidRequest(self.message())
        if not self.ok:
            raise EngineError(f"the engine refused: {self.message()}")
        return self

    def message(self) -> str:
        """What the engine says is wrong."""
        try:
            return str(self.json()["message"])
        except (ValueError, TypeError, KeyError):
            return self.content.decode("utf-8", "replace").strip() or f"status {self.status}"


class Reply:
    """An answer whose body is still coming."""

    def __init__(self, call: _Call, head: h11.Response | h11.InformationalResponse) -> None:
        self._call = call
        self.status = head.status_code
        self.headers = {name.decode(): value.decode() for name, value in head.headers}

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises EngineUnavailable if it breaks off."""
        if self.headers.get("transfer-encoding") == "chunked":
            async for piece in self._chunks():
                yield piece
            return
        while not isinstance(event := await self._call.event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise EngineUnavailable(_CUT)
            yield bytes(event.data)

    async def _chunks(self) -> AsyncIterator[bytes]:
        rest = self._call.connection.trailing_data[0]
        try:
            while not (found := split(rest)).ended:
                if found.data:
                    yield found.data
                if not (more := await self._call.reader.read(CHUNK)):
                    raise EngineUnavailable(_CUT)
                rest = found.rest + more
        except ValueError as error:
            raise EngineUnavailable(f"the engine's answer is no HTTP: {error}") from error
        if found.data:
            yield found.data

    async def whole(self) -> Answer:
        """All of it. Raises EngineError if it is too long."""
        data = bytearray()
        async for piece in self.pieces():
            data += piece
            if len(data) > _MAX_ANSWER:
                raise EngineError("the engine's answer is too long")
        return Answer(self.status, bytes(data))

    async def tunnel(self, exchange: Exchange, early: bytes) -> None:
        """Pass raw bytes both ways to the end of the engine's, after those that came `early`."""
        call = self._call
        call.writer.write(early)
        exchange.writer.write(call.connection.trailing_data[0])
        await tunnel((exchange.reader, exchange.writer), (call.reader, call.writer))


async def connect(path: str) -> Connection:
    """A connection to the daemon at a Unix socket. Raises EngineUnavailable if it is not there."""
    try:
        async with asyncio.timeout(_CONNECT):
            return await asyncio.open_unix_connection(path, limit=CHUNK)
    except (OSError, TimeoutError) as error:
        raise EngineUnavailable(f"the engine does not answer: {error}") from error


class Upstream:
    """A daemon that is asked; `connect` gives a connection to it. Raises what that does, and EngineUnavailable."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect

    @classmethod
    def at(cls, host: str) -> Upstream:
        """The one behind a Unix socket's path or `unix://` URL."""
        return cls(partial(connect, host.removeprefix("unix://")))

    async def ask(self, method: str, path: str, query: Pairs | None = None, body: object = None) -> Answer:
        """Ask with JSON, and take the whole answer."""
        content = None if body is None else json.dumps(body).encode()
        async with self.request(method, path, query, body=content) as reply:
            return await reply.whole()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        query: Pairs | None = None,
        *,
        body: Body = None,
        stream: AsyncIterator[bytes] | None = None,
        headers: Pairs = (),
        upgrade: str | None = None,
    ) -> AsyncIterator[Reply]:
        """A new request, and its answer while the block lasts. `path` has no version; each part of it is quoted.

        `upgrade` names the protocol that is to follow on the connection.
        """
        reader, writer = await self._connect()
        call = _Call(reader, writer)
        target = f"/v{API_VERSION}{quote(path, safe='/:@+')}"
        fields = [("Host", "docker"), ("User-Agent", "sibling-gate")]
        fields += headers.items() if isinstance(headers, Mapping) else headers
        if upgrade is not None:
            fields += [("Connection", "Upgrade"), ("Upgrade", upgrade)]
        try:
            head = await call.send(method, f"{target}?{urlencode(query)}" if query else target, fields, body, stream)
            yield Reply(call, head)
        except (OSError, h11.RemoteProtocolError) as error:
            raise EngineUnavailable(f"the engine hung up: {error}") from error
        finally:
            writer.close()


class _Call:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1024 * 1024)

    async def send(
        self, method: str, target: str, fields: list[tuple[str, str]], body: Body, stream: AsyncIterator[bytes] | None
    ) -> h11.Response | h11.InformationalResponse:
        if stream is not None:
            fields += [("Transfer-Encoding", "chunked")]
        elif body is not None or method == "POST":
            fields += [("Content-Length", str(len(body or b""))), ("Content-Type", "application/json")]
        await self._write(h11.Request(method=method, target=target, headers=fields))
        if stream is None:
            await self._write(h11.Data(data=body or b""))
            await self._write(h11.EndOfMessage())
            return await self._head()
        sending, answer = asyncio.create_task(self._pour(stream)), asyncio.create_task(self._head())
        try:
            await asyncio.wait({sending, answer}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            return await answer  # it may refuse before it has read all
        finally:
            for task in (sending, answer):
                task.cancel()
            await asyncio.gather(sending, answer, return_exceptions=True)

    async def _pour(self, stream: AsyncIterator[bytes]) -> None:
        """Send all of a body. Raises what the stream does."""
        async for piece in stream:
            if not await self._taken(h11.Data(data=piece)):
                return
        await self._taken(h11.EndOfMessage())

    async def _taken(self, event: h11.Event) -> bool:
        """Whether the engine takes it; if not, its answer says why."""
        try:
            await self._write(event)
        except OSError:
            return False
        return True

    async def _head(self) -> h11.Response | h11.InformationalResponse:
        while True:
            event = await self.event()
            if isinstance(event, h11.Response):
                return event
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    return event
            else:
                raise EngineUnavailable("the engine hung up before its answer")

    async def event(self) -> Any:
        while (event := self.connection.next_event()) is h11.NEED_DATA:
            self.connection.receive_data(await self.reader.read(CHUNK))
        return event

    async def _write(self, event: h11.Event) -> None:
        if data := self.connection.send(event):
            self.writer.write(data)
            await self.writer.drain()
