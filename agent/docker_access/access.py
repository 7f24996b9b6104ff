"""The Docker sockets of builds: opened with a build's start, hung up first at its end; then what it made goes.

They lie beside the API's (`agent.build_sockets`), in the folder that the container has anyway, and a link in the
container leads there from where clients look. So a socket that is opened anew after a restart of the service is found.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from agent import build_sockets
from agent.docker_access import rights
from agent.docker_access.daemons import Sidecar
from agent.docker_access.relay import Relay
from agent.engine import container_name
from agent.errors import AgentError, EngineUnavailable
from agent.files import tree
from agent.gate import disk
from agent.gate.gate import Gate
from agent.threads import in_thread
from agent.unix_socket import Connections, listen

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection
    from pathlib import Path

    from agent.build_store import BuildStore
    from agent.builds import Build
    from agent.docker_access.daemons import Daemons
    from agent.docker_access.scoped import Gates
    from agent.engine import Engine
    from agent.files.workspace import Workspaces
    from agent.gate.policy import Refused
    from agent.gate.upstream import Connection
    from agent.metrics import Metrics
    from agent.settings import Settings

LINK = "/var/run/docker.sock"  # where every client looks


class _Served(Protocol):
    """What answers on a socket: a `Gate`, or a `Relay`."""

    connections: Connections[Any]

    async def open(self, listener: socket.socket) -> None: ...
    async def hang_up(self) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class DockerAccess:
    """Shared by all builds; `sockets` is the folder of theirs."""

    engine: Engine
    sockets: Path
    gates: Gates
    daemons: Daemons
    workspaces: Workspaces
    store: BuildStore
    settings: Settings
    metrics: Metrics
    _open: dict[str, _Served] = field(default_factory=dict)

    async def open(self, build: Build, container: str, note: Callable[[str], None]) -> None:
        """Have the build's socket, if its level has one; `container` is its name. Does nothing if it is open.

        What an earlier life of the service let the build make stays. Raises AgentError.
        """
        served = self._open.get(build.id)
        if build.container.docker == "none" or (served is not None and served.connections.is_open):
            return
        try:
            if served is None:  # else it was hung up, and its run begins once more
                served = self._open[build.id] = await in_thread(self._served, build, container, note)
            path = tree.child(self.sockets, build.id) / build_sockets.DOCKER_NAME
            owner = os.lstat(self.workspaces.path(build.id))
            listener = await in_thread(listen, path, 0o600, (owner.st_uid, owner.st_gid))
            await served.open(listener)
        except (OSError, ValueError) as error:
            raise AgentError(f"the Docker socket of build {build.id} could not be opened: {error}") from error

    async def link(self, build: Build, container: str) -> None:
        """Let clients in the container, which is not started yet, find the socket. Raises EngineError."""
        if build.container.docker != "none":
            await self.engine.make_link(container, LINK, f"{build_sockets.TARGET}/{build_sockets.DOCKER_NAME}")

    async def hang_up(self, build_id: str) -> None:
        """Serve the build no more; what it made stays for now."""
        self.daemons.ends(build_id)
        if (served := self._open.get(build_id)) is not None:
            await served.hang_up()

    async def close(self, build_id: str) -> None:
        """Hang up and remove all that the build made, once its own container is gone. Raises AgentError."""
        if (served := self._open.get(build_id)) is not None:
            await served.close()
            del self._open[build_id]
        elif build_id in await in_thread(self.gates.ids):
            await self._remove(build_id)
        if build_id in await in_thread(self.daemons.ids):
            await self.daemons.stop(build_id, container_name(build_id))

    async def look(self, alive: Collection[str]) -> None:
        """Remove what builds left that are over, as after a crash of the service. Raises AgentError."""
        for build_id in await in_thread(self.gates.ids):
            if build_id not in alive:
                await self._remove(build_id)
                self.metrics.reaped.labels("docker").inc()
        await self.daemons.look(alive, container_name)

    async def watch_disk(self) -> None:
        """See what builds have on the disk, and wait a while. Raises AgentError."""
        await disk.turn(self._look_at_disk)

    async def _look_at_disk(self) -> None:
        gates = [each for each in self._open.values() if isinstance(each, Gate)]
        if gates or self.daemons.running:
            volumes = await disk.of_volumes(self.gates.upstream)
            for gate in gates:
                await disk.judge(gate, volumes)
            await self.daemons.judge(volumes)

    async def hang_up_all(self) -> None:
        """Serve nobody any more, and leave what builds made to those that still run."""
        for build_id in tuple(self._open):
            await self.hang_up(build_id)

    async def _remove(self, build_id: str) -> None:
        try:
            gate = await in_thread(self.gates.gate, build_id)
        except (OSError, ValueError) as error:
            raise AgentError(f"what build {build_id} made with Docker cannot be told: {error}") from error
        await gate.close()

    def _served(self, build: Build, container: str, note: Callable[[str], None]) -> _Served:
        self.metrics.docker.labels(build.container.docker).inc()
        if build.container.docker == "scoped":
            return self._gate(build, container, note)
        if build.container.docker == "isolated":
            return Relay(connect=partial(self._isolated, build, container, note))
        return Relay(connect=partial(self._host, build))

    def _gate(self, build: Build, container: str, note: Callable[[str], None]) -> Gate:
        def refused(refusal: Refused, is_told: bool) -> None:  # noqa: FBT001 - a callback
            self.metrics.gate_refusals.labels(refusal.rule).inc()
            if is_told:
                note(str(refusal))

        return self.gates.gate(
            build.id,
            member=container,
            connecting=partial(rights.connecting, self.store, build, self.settings.grants),
            refused=refused,
            note=note,
        )

    async def _isolated(self, build: Build, container: str, note: Callable[[str], None]) -> Connection:
        """A connection to the build's own daemon. Raises Rejected, Unavailable, EngineError."""
        caller = await rights.connecting(self.store, build, self.settings.grants)
        sidecar = Sidecar(build_id=build.id, container=container, domain=rights.domain(caller), builder=False)
        return await self.daemons.connect(sidecar, note)

    async def _host(self, build: Build) -> Connection:
        """A connection to the host's own socket. Raises Rejected, Unavailable, EngineUnavailable."""
        await rights.connecting(self.store, build, self.settings.grants)
        path = self.settings.engine.host.removeprefix("unix://")
        try:
            return await asyncio.open_unix_connection(path)
        except OSError as error:
            raise EngineUnavailable(f"no answer from the engine at {path}: {error.strerror}") from error
