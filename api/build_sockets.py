"""The API on the Unix socket of one build: the same application, told whose container calls."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from agent.threads import in_thread
from agent.unix_socket import listen

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from agent.build_sockets import Close

BUILD = "sibling.build"  # the key of a request's scope: the build that calls; `api.auth` reads it


class SocketServer:
    """See `agent.build_sockets.SocketServer`. `app` must be set before the first build starts."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None

    async def serve(self, path: Path, build_id: str) -> Close:
        """Listen at the path. The container's user may be anyone, and no other container sees the folder."""
        if self.app is None:
            raise RuntimeError("the application is not known yet")
        config = uvicorn.Config(
            _Inside(self.app, build_id), lifespan="off", log_config=None, access_log=False, server_header=False
        )
        config.load()
        state = ServerState()
        protocol = functools.partial(HttpToolsProtocol, config=config, server_state=state, app_state={})
        listener = await in_thread(listen, path, 0o666)
        server = await asyncio.get_running_loop().create_unix_server(protocol, sock=listener)
        return functools.partial(_close, server, state)


class _Inside:
    """Marks every request as one from inside of a build's container."""

    def __init__(self, app: ASGIApp, build_id: str) -> None:
        self._app = app
        self._build_id = build_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[BUILD] = self._build_id
        await self._app(scope, receive, send)


async def _close(server: asyncio.Server, state: ServerState) -> None:
    """At once: nobody is left in the container to read an answer."""
    server.close()
    tasks = tuple(state.tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for connection in tuple(state.connections):
        connection.shutdown()
