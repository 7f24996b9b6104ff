"""A real server on a thread of its own: uvicorn's protocols on a socket that may live in another network namespace."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET


def bound(host: str, port: int, netns_pid: int | None = None) -> socket.socket:
    """A bound socket. One made in another process's network namespace stays there, wherever it is used."""
    if netns_pid is None:
        return _bind(host, port)
    made: list[socket.socket | OSError] = []
    thread = threading.Thread(target=_bind_in, args=(netns_pid, host, port, made))
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def _bind(host: str, port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only on sockets of this protocol, and each answer would take 40 ms without.
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def _bind_in(pid: int, host: str, port: int, made: list[socket.socket | OSError]) -> None:
    """Only this thread enters the namespace, and it ends here."""
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace, _NEW_NETWORK):
                code = ctypes.get_errno()
                raise OSError(code, f"setns: {os.strerror(code)}")
        finally:
            os.close(namespace)
        made.append(_bind(host, port))
    except OSError as error:
        made.append(error)


class Server:
    """Serves an app from `start` to `stop`, as often as asked. The port is held in between, though nobody listens."""

    def __init__(self, app: ASGIApp, *, host: str, port: int, netns_pid: int | None = None) -> None:
        self._app = app
        self._where = (host, port, netns_pid)
        self._guard: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._transports: dict[Any, asyncio.Transport] = {}

    @property
    def port(self) -> int:
        assert self._guard is not None
        return self._guard.getsockname()[1]

    def open(self) -> None:
        """Take the port, without listening yet."""
        if self._guard is None:
            self._guard = bound(*self._where)

    def close(self) -> None:
        """Give the port away."""
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def start(self) -> None:
        self.open()
        host, _, netns_pid = self._where
        listening = bound(host, self.port, netns_pid)
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening, ready)), name="controller", daemon=True
        )
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Refuse new connections and cut the ones there are, WebSockets included."""
        if self._thread is None:
            return
        assert self._stopping is not None
        self.soon(self._stopping.set)
        self._thread.join()
        self._thread = self._loop = None

    async def _serve(self, listening: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        config = uvicorn.Config(
            self._app,
            ws="websockets-sansio",
            log_config=None,
            access_log=False,
            timeout_keep_alive=75,
            ws_ping_interval=None,
        )
        config.load()
        state = ServerState()
        server = await self._loop.create_server(lambda: _Connection(self._transports, config, state), sock=listening)
        ready.set()
        await self._stopping.wait()
        server.close()
        self.cut_all()
        if state.tasks:  # they see that their connection is gone; to cancel them would be reported as a mistake
            await asyncio.wait(set(state.tasks))

    async def sleep(self, seconds: float) -> None:
        """Called on the loop; shorter if the server stops."""
        assert self._stopping is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def soon(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Have the server's loop call this, unless it has ended."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(call, *arguments)

    def later(self, seconds: float, call: Callable[[], Any]) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(loop.call_later, seconds, call)

    def cut(self, client: Any) -> None:
        """Cut the connection that comes from this address and port; called on the server's loop."""
        transport = self._transports.pop(tuple(client), None)
        if transport is not None:
            transport.abort()

    def cut_all(self) -> None:
        for client in list(self._transports):
            self.cut(client)


class _Connection(HttpToolsProtocol):
    """One that can be found by its client's address, also after it has become a WebSocket."""

    def __init__(self, transports: dict[Any, asyncio.Transport], config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self._transports = transports

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._transports[transport.get_extra_info("peername")] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transports.pop(self.client, None)
        super().connection_lost(exc)
