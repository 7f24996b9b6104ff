"""A daemon's whole socket for one build, byte for byte: nothing that is sent is looked at."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import AgentError
from agent.unix_socket import Connections, tunnel

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from agent.gate.upstream import Connection

_CHUNK = 256 * 1024
_REFUSING = 10.0  # seconds in which a client may ask, and read that it may not


@dataclass(kw_only=True)
class Relay:
    """`connect` gives a connection to the daemon, or raises an AgentError, which whoever connected is answered."""

    connect: Callable[[], Awaitable[Connection]]

    def __post_init__(self) -> None:
        self.connections = Connections(self._serve, asyncio.StreamReader)

    async def open(self, listener: socket.socket) -> None:
        """Serve there."""
        await self.connections.open(listener)

    async def hang_up(self) -> None:
        """Serve nobody any more; nothing is left of it."""
        await self.connections.hang_up()

    close = hang_up

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._relay(reader, writer)
        except AgentError as error:
            await _refuse(reader, writer, error)
        except OSError:
            pass  # one of them hung up
        finally:
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        daemon = await self.connect()
        try:
            await tunnel((reader, writer), daemon)
        finally:
            daemon[1].close()


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, error: AgentError) -> None:
    """Answer whatever is asked, as the daemon words its refusals.

    Clients look for an answer only once they have asked; who hangs up on them before that is not heard.
    """
    body = json.dumps({"message": f"Sibling: {error}"}).encode()
    head = f"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_REFUSING):
            await reader.read(1)
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            writer.write_eof()
            while await reader.read(_CHUNK):
                pass
