"""HTTP/1.1 as the gate speaks it with a build: one strict request at a time, and an answer of our own (RFC 9112).

What comes is parsed by h11, after checks of ours on the bytes of the header: no bare line feed, no folded line, nothing
but printable ASCII, and never both of Content-Length and Transfer-Encoding. Nothing of it goes on as it is.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_plus

import h11

from agent.errors import AgentError, InvalidRequest, NotFound, TooLarge
from agent.unix_socket import see_open

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

API_VERSION = "1.45"  # Engine 26: the one that the gate speaks with the engine, and says that it speaks
MAX_HEADER = 64 * 1024  # bytes
MAX_JSON = 256 * 1024  # bytes: all gates of a service share a processor, and take a tenth of a second to read this
HEADER_DEADLINE = 20.0  # seconds from its first byte to its last
BODY_DEADLINE = 60.0  # seconds between two pieces of a body
PATIENCE = 60.0  # seconds in which a piece of an archive is to be read: the engine holds the container meanwhile
CHUNK = 256 * 1024
_EVENTS = 200  # parts of a body, a chunk each, after which others have their turn: h11 takes some 10 us for one
_DRAINED, _DRAIN = 64 * 1024 * 1024, 5.0  # bytes and seconds of a body that nobody needs
_END = b"\r\n\r\n"
# Printable ASCII, tabs within a line, and line ends that are whole.
_HEADER = re.compile(rb"(?:[\t\x20-\x7e]*\r\n)+\r\n")
_FOLDED = re.compile(rb"\r\n[ \t]")
_PATH = re.compile(r"(?:/[A-Za-z0-9_.:@\[\]+-]+)+")
_OF_IMAGES = re.compile(r"(?:/v[0-9.]+)?/(?:images|distribution)/")  # names have slashes, which some clients escape
# Of a path that is not plain: the name in it, which none of those can have. Clients send what people typed.
_ODD = re.compile(
    r"(?:/v[0-9.]+)?/(?:(container|network|volume|plugin|service|task|node|secret|config)s"
    r"/([A-Za-z0-9_.:@\[\]+-]*[^/A-Za-z0-9_.:@\[\]+-][^/]*)(?:/[a-z]+)?|(images|distribution)/.+)",
    re.DOTALL,
)
_NOT_THERE = {"network": "network {} not found", "volume": "get {}: no such volume"}  # as the engine says it
_ONCE = {
    "host",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "x-registry-auth",
    "x-registry-config",
}
AGAIN = "\0"  # between values of a query's key that is there several times
_MANY_FIELDS = {"x-docker-expose-session-grpc-method"}  # a header that may be there several times: a line each
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Reader(asyncio.StreamReader):
    """Also tells when the other side has sent its last byte, without taking one."""

    def __init__(self) -> None:
        super().__init__(limit=MAX_HEADER)
        self.ended = asyncio.Event()

    def feed_eof(self) -> None:
        """See asyncio."""
        super().feed_eof()
        self.ended.set()


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request's head. `path` is decoded and plain; header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


_NONE = Request(method="", path="", query={}, headers={})


class Exchange:
    """One request and its answer on a connection. Raises InvalidRequest for what is no HTTP as we take it.

    `unshown` is what answers in JSON are without: the prefix of the build's names.
    """

    def __init__(
        self, reader: Reader, writer: asyncio.StreamWriter, connection: h11.Connection, unshown: str = ""
    ) -> None:
        self._unshown = unshown.encode()
        self.reader = reader
        self.writer = writer
        self._connection = connection
        self.request = _NONE
        self.answered = False
        self._sent, self._is_unread = 0, False  # pieces of answers, and whether the last one waits to be read

    async def begin(self) -> bool:
        """Read the next request's head; False if there is none any more."""
        self.request = _NONE  # the answer to what is no request has a body, also after a HEAD
        first = await self.reader.read(1)
        if not first:
            return False
        try:
            async with asyncio.timeout(HEADER_DEADLINE):
                rest = await self.reader.readuntil(_END)
        except TimeoutError as error:
            raise InvalidRequest(f"the header did not come within {HEADER_DEADLINE:g} s") from error
        except asyncio.LimitOverrunError as error:
            raise InvalidRequest(f"the header is over {MAX_HEADER} bytes") from error
        except asyncio.IncompleteReadError as error:
            raise InvalidRequest("the header ends in the middle") from error
        self.request = self._head(first + rest)
        return True

    def _head(self, raw: bytes) -> Request:
        if not _HEADER.fullmatch(raw) or _FOLDED.search(raw):
            raise InvalidRequest("the header has folded lines, bare line ends or characters that are not ASCII")
        self._connection.receive_data(raw)
        event = self._connection.next_event()
        if not isinstance(event, h11.Request):
            raise InvalidRequest("that is no request")
        fields: dict[str, str] = {}
        for name, value in event.headers:
            key = name.decode()
            if key in fields and key in _ONCE:
                raise InvalidRequest(f"the header field {key} comes twice")
            if key in fields and key == "content-type":  # bollard adds its own; the engine is given ours
                continue
            several = key in fields and key in _MANY_FIELDS
            fields[key] = f"{fields[key]}\n{value.decode()}" if several else value.decode()
        if "content-length" in fields and "transfer-encoding" in fields:
            raise InvalidRequest("Content-Length and Transfer-Encoding exclude each other")
        path, query = _target(event.target.decode())
        return Request(method=event.method.decode(), path=path, query=query, headers=fields)

    async def body(self) -> AsyncIterator[bytes]:
        """The body, by what has come at once. Raises InvalidRequest if it stalls or breaks off."""
        if self._connection.they_are_waiting_for_100_continue:
            head = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            self.writer.write(self._connection.send(head) or b"")
        ended = False
        while not ended:
            parts: list[bytes] = []
            while isinstance(event := self._connection.next_event(), h11.Data):
                parts.append(event.data)
                if len(parts) % _EVENTS == 0:
                    await asyncio.sleep(0)
            if parts:
                yield b"".join(parts)
            ended = isinstance(event, h11.EndOfMessage)
            if event is h11.NEED_DATA:
                await self._more()
            elif not ended:
                raise InvalidRequest("the body breaks off")

    async def _more(self) -> None:
        try:
            async with asyncio.timeout(BODY_DEADLINE):
                data = await self.reader.read(CHUNK)
        except TimeoutError as error:
            raise InvalidRequest(f"nothing more of the body came for {BODY_DEADLINE:g} s") from error
        self._connection.receive_data(data)

    async def whole(self, limit: int = MAX_JSON) -> bytes:
        """The whole body. Raises TooLarge, InvalidRequest."""
        data = bytearray()
        async for piece in self.body():
            data += piece
            if len(data) > limit:
                raise TooLarge(f"the body is over {limit} bytes")
        return bytes(data)

    async def nothing(self) -> None:
        """Take a body that means nothing: clients such as dockerode send the query there once more. Raises TooLarge."""
        await self.whole()

    async def answer(self, status: int, content: Any = None, headers: Mapping[str, str] | None = None) -> None:
        """Answer with JSON, bytes, or nothing."""
        fields = dict(headers or {})
        data = content if isinstance(content, bytes) else b""
        if content is not None and not isinstance(content, bytes):
            data = json.dumps(content, separators=(",", ":")).encode().replace(self._unshown, b"") + b"\n"
            fields |= {"Content-Type": "application/json"}
        if status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            fields["Content-Length"] = str(len(data))
        await self._send(self._response(status, fields))
        if data and self.request.method != "HEAD":
            await self._send(h11.Data(data=data))
        await self._send(h11.EndOfMessage())

    async def stream(self, status: int, pieces: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        """Answer with the pieces as they come. If they break off, so does the answer."""
        await self._send(self._response(status, {**headers, "Transfer-Encoding": "chunked"}))
        async for piece in pieces:
            await self._send(h11.Data(data=piece))
        await self._send(h11.EndOfMessage())

    async def relay(
        self, status: int, pieces: AsyncIterator[bytes], headers: Mapping[str, str], patience: float | None = None
    ) -> None:
        """The same for an answer that may take for ever: it ends as well when nobody is there to read it.

        So it does when what fits into no buffer is not read for `patience` seconds, or up to twice as many.
        """
        streaming = asyncio.ensure_future(self.stream(status, pieces, headers))
        gone = asyncio.ensure_future(self.reader.ended.wait())
        try:
            seen = -1
            while not (await asyncio.wait({streaming, gone}, timeout=patience, return_when=asyncio.FIRST_COMPLETED))[0]:
                if self._is_unread and seen == self._sent:
                    break
                seen = self._sent
            if not streaming.done():
                raise ConnectionAbortedError
            streaming.result()
        finally:
            gone.cancel()
            streaming.cancel()
            await asyncio.gather(streaming, gone, return_exceptions=True)

    async def switch(self, protocol: str, headers: Mapping[str, str]) -> bytes:
        """Answer that raw bytes follow, both ways; returns those that came already (Docker API, ContainerAttach)."""
        upgrade = "upgrade" in self.request.headers
        status = "101 UPGRADED" if upgrade else "200 OK"
        fields = {"Connection": "Upgrade", "Upgrade": protocol} if upgrade else {"Connection": "close"}
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in {**headers, **fields}.items())]
        self.answered = True
        self.writer.write("\r\n".join([*lines, "\r\n"]).encode())
        await self.writer.drain()
        return self._connection.trailing_data[0]

    async def drain(self) -> None:
        """Read what is left of a request that was answered early: to hang up on it would take the answer away."""
        left = _DRAINED
        if self._connection.their_state is not h11.SEND_BODY:
            return
        with suppress(TimeoutError, InvalidRequest):
            async with asyncio.timeout(_DRAIN):
                async for piece in self.body():
                    left -= len(piece)
                    if left < 0:
                        return

    async def linger(self) -> None:
        """Read what still comes on a connection that was switched: to hang up on it would take away what was sent."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN):
                while await self.reader.read(CHUNK):
                    pass

    def next(self) -> bool:
        """Make ready for another request on the connection; False if it cannot have one."""
        both = self._connection.our_state, self._connection.their_state
        if both == (h11.DONE, h11.DONE) and not self._connection.trailing_data[0]:
            self._connection.start_next_cycle()
            self.answered = False
            return True
        return False

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    def _response(self, status: int, headers: Mapping[str, str]) -> h11.Response:
        self.answered = True
        # What Docker's clients look at on each answer.
        common = {"Server": "Sibling", "Api-Version": API_VERSION, "Ostype": "linux"}
        fields = [*common.items(), *headers.items()]
        return h11.Response(status_code=status, headers=fields, reason=HTTPStatus(status).phrase)

    async def _send(self, event: h11.Event) -> None:
        if parts := self._connection.send_with_data_passthrough(event):
            see_open(self.writer)
            self.writer.writelines(parts)  # joined, they would be copied once more
            self._sent, self._is_unread = self._sent + 1, True
            await self.writer.drain()
            self._is_unread = False


def _target(target: str) -> tuple[str, dict[str, str]]:
    """The plain path and the query of a request's target. Raises InvalidRequest."""
    raw, _, query = target.partition("?")
    if _ESCAPE.search(target) or "#" in target or ("%2f" in raw.lower() and not _OF_IMAGES.match(raw)):
        raise InvalidRequest("the path has an escape that may not be there")
    path = unquote(raw, errors="strict") if raw.isascii() else ""
    if not _PATH.fullmatch(path) or any(part in (".", "..") for part in path.split("/")):
        raise _no_path(raw, path)
    values: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = (unquote_plus(part, errors="strict") for part in pair.partition("="))
        values[name] = f"{values[name]}{AGAIN}{value}" if name in values else value
    return path, values


def _no_path(raw: str, path: str) -> AgentError:
    """What is wrong with a path that is none of Docker's API, in the engine's words if it is the name in it."""
    odd = _ODD.fullmatch(path)
    if odd is None:
        return InvalidRequest(f"{raw[:200]!r} is not a path of Docker's API")
    kind, name, _ = odd.groups()
    if kind is None:
        return InvalidRequest("invalid reference format")
    return NotFound(_NOT_THERE.get(kind, f"No such {kind}: {{}}").format(name[:200]))
