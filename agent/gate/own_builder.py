"""The builder of a gate without the service: a Docker daemon in a container that the build does not see.

It is none of the build's containers, so that its name and its id are not there for the build; it is in the journal all
the same, so that it goes with the rest.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from agent import references
from agent.docker_access import daemon_body
from agent.docker_access.daemon_start import on_disk, reached, start
from agent.errors import EngineError
from agent.fields import ByteSize, Duration, Frozen, Text
from agent.gate import names
from agent.gate.queries import containers_with
from agent.settings.daemon import DaemonSettings
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from agent.gate.gate import Gate
    from agent.gate.upstream import Connection


class BuilderPolicy(Frozen):
    """What the builder is made of, and what all its steps may take together."""

    image: Annotated[Text, Field(max_length=512)]
    cache: Annotated[str, Field(pattern=names.NAME.pattern)] | None = None  # a volume that is kept
    memory: ByteSize = 4 * 1024**3  # bytes
    cpus: float = Field(2.0, gt=0, le=4096)
    pids: int = Field(8192, gt=0, le=2**22)
    disk: ByteSize = 40 * 1024**3  # bytes
    start_timeout: Duration = 60.0


@dataclass(kw_only=True)
class OwnBuilder:
    """Started with the first connection, and anew with the first after its end was told.

    `folder` has its socket. The engine must know the folder by the same path.
    """

    gate: Gate
    policy: BuilderPolicy
    folder: Path
    note: Callable[[str], None]
    _container: str | None = None  # its id, once it is started
    _is_cache_full: bool = False
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def connect(self) -> Connection:
        """A connection to its daemon. Raises EngineError, DaemonGone."""
        async with self._starting:
            container = self._container = self._container or await self._start()
        return await reached(self.gate.upstream, container, self.folder, self.gate.build, self._forget)

    async def judge(self, volumes: Mapping[str, int]) -> None:
        """End it if it has too much on the disk. Raises EngineError."""
        if (container := self._container) is None:
            return
        used = await on_disk(self.gate.upstream, container, volumes)
        if used > self.policy.disk:
            kept = f"; remove the volume {self.policy.cache}" if self.policy.cache else ""
            self.note(f"the builder has {used} bytes on the disk, over builder.disk, and is ended{kept}")
            self._is_cache_full = True
            await self.gate.upstream.ask("DELETE", f"/containers/{container}", {"force": "1", "v": "1"})

    def _forget(self) -> None:
        self._container = None

    @property
    def _name(self) -> str:
        """Of its container."""
        return f"{self.gate.network_name}-builder"

    async def _start(self) -> str:
        """Returns the id of its container."""
        upstream, name = self.gate.upstream, self._name
        image = str(references.parse(self.policy.image))
        if not (await upstream.ask("GET", f"/images/{image}/json")).ok:
            raise EngineError(f"the builder's image {image} is not on the engine; pull it there")
        await in_thread(self.folder.mkdir, mode=0o700, exist_ok=True)
        network = await self.gate.network()
        settings = DaemonSettings(**self.policy.model_dump(exclude={"cache"}))
        body = daemon_body.body(
            image,
            settings,
            builder=True,
            network=network["Name"],
            labels={"sibling.gate.builder": self.gate.build},
            mounts=[
                {"Type": "bind", "Source": str(self.folder), "Target": daemon_body.SOCKET},
                daemon_body.data(await self._cache()),
            ],
        )
        with self.gate.intending(name, "builder"):
            await upstream.ask("DELETE", f"/containers/{name}", {"force": "1", "v": "1"})
            made = (await upstream.ask("POST", "/containers/create", {"name": name}, body)).done().json()["Id"]
            self.gate.journal.add("builder", name)
        await start(upstream, name, self.folder, self.gate.build, self.policy.start_timeout)
        return str(made)

    async def _cache(self) -> str | None:
        """The volume with its data, unless it is too large, or another daemon has it: two on one would spoil it."""
        cache = None if self._is_cache_full else self.policy.cache
        if cache is not None:
            holders = await self.gate.upstream.ask("GET", "/containers/json", containers_with("volume", cache))
            if holders.done().json():
                self.note(f"the cache {cache} is held by another builder; this one begins with an empty one")
                return None
        return cache
