"""A Docker daemon for one build, in a container beside the build's and in its network, as in a pod.

The build has the whole of it (`isolated`), or its builder alone, by way of the build's gate (`scoped`).

Its data are in a volume that is kept for its trust domain, so that the next build finds its images and its build cache.
Such a volume is held by one daemon at a time; which are held is told by the engine, so that a kill of the service
changes nothing. A build that finds all of them held gets an empty one that goes with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from agent import references, toolkit
from agent.docker_access import daemon_body, rights
from agent.docker_access.daemon_start import on_disk, reached, start
from agent.engine import LABEL_BUILD, LABEL_ROLE, LABEL_SERVICE
from agent.errors import AgentError
from agent.files import tree
from agent.gate import disk
from agent.pull import pull
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from agent.docker_access.mirror import Mirror
    from agent.engine import Engine, MountPoint
    from agent.gate.upstream import Connection, Upstream
    from agent.policy import Place
    from agent.registries import Registries
    from agent.settings.daemon import DaemonSettings

_STOP_GRACE = 5.0  # seconds, in which it lets go of its data whole
FOLDER = "daemons"  # of the data volume


@dataclass(frozen=True, kw_only=True, slots=True)
class Sidecar:
    """Whose daemon it is, and what for."""

    build_id: str
    container: str  # the build's own, by its name
    domain: str  # whose builds may find what it leaves
    builder: bool  # it builds images, and that is all that the build has of it

    @property
    def name(self) -> str:
        """The name of its container."""
        return daemon_name(self.container)


def daemon_name(build_container: str) -> str:
    """The name of the container of a build's daemon."""
    return f"{build_container}-docker"


@dataclass(frozen=True, kw_only=True)
class Daemons:
    """Those of one service; `folder` has their sockets, each in a folder that its container writes to."""

    engine: Engine
    upstream: Upstream
    registries: Registries
    settings: DaemonSettings
    place: Place
    folder: Path
    mirror: Mirror
    _starts: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _choosing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _caches: dict[str, str] = field(default_factory=dict)  # by build
    _running: dict[str, tuple[str, Callable[[str], None]]] = field(default_factory=dict)  # by build: container, note
    _ending: dict[str, asyncio.Event] = field(default_factory=dict)  # by cache

    def __post_init__(self) -> None:
        """The folder, for us alone."""
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def ids(self) -> list[str]:
        """The builds that have, or had, a daemon. Blocks."""
        return [each.name for each in self.folder.iterdir()]

    async def connect(self, sidecar: Sidecar, note: Callable[[str], None]) -> Connection:
        """A connection to a build's daemon; the first one starts it. Raises AgentError, DaemonGone."""
        begun = self._starts.get(sidecar.build_id)
        if begun is None or (begun.done() and (begun.cancelled() or begun.exception() is not None)):
            begun = self._starts[sidecar.build_id] = asyncio.create_task(self._start(sidecar, note))
        await asyncio.shield(begun)
        folder, forget = tree.child(self.folder, sidecar.build_id), partial(self._starts.pop, sidecar.build_id, None)
        return await reached(self.upstream, sidecar.name, folder, sidecar.build_id, forget)

    def ends(self, build_id: str) -> None:
        """It is about to be stopped: who wants its cache had better wait for it."""
        if (cache := self._caches.get(build_id)) is not None:
            self._ending.setdefault(cache, asyncio.Event())

    async def stop(self, build_id: str, container: str) -> None:
        """End it, and keep its data if they are not too large. Does nothing if there is none. Raises AgentError."""
        self.ends(build_id)
        if (begun := self._starts.pop(build_id, None)) is not None:
            begun.cancel()
            await asyncio.gather(begun, return_exceptions=True)
        self._running.pop(build_id, None)
        try:
            await self._remove(daemon_name(container))
        finally:
            ending = self._ending.pop(self._caches.pop(build_id, ""), None)
            if ending is not None:
                ending.set()
        await in_thread(tree.remove, tree.child(self.folder, build_id))

    async def _remove(self, name: str) -> None:
        caches = [each.source for each in await self._mounts(name) if each.source.startswith(_cache_prefix(self.place))]
        await self.engine.stop(name, _STOP_GRACE)
        await self.engine.remove(name)
        for cache in caches:
            await self._see_size(cache)

    async def judge(self, volumes: Mapping[str, int]) -> None:
        """End daemons that have too much on the disk. Raises EngineError."""
        for build_id, (container, note) in tuple(self._running.items()):
            used = await on_disk(self.upstream, container, volumes)
            if used > self.settings.disk:
                del self._running[build_id]
                note(f"the Docker daemon of this build has {used} bytes on the disk, over daemon.disk; it is ended")
                await self.engine.stop(container, _STOP_GRACE)

    @property
    def running(self) -> bool:
        """Whether any was started and is not stopped yet."""
        return bool(self._running)

    async def look(self, alive: Collection[str], container: Callable[[str], str]) -> None:
        """End those of builds that are over, as after a crash. Raises AgentError."""
        for build_id in await in_thread(self.ids):
            if build_id not in alive:
                await self.stop(build_id, container(build_id))

    async def _start(self, sidecar: Sidecar, note: Callable[[str], None]) -> None:
        if self.settings.image is None:
            raise rights.no_daemons()
        there = await self.engine.container(sidecar.name)
        if there is not None and there.state == "running":
            self._running[sidecar.build_id] = (sidecar.name, note)
            return
        began = time.monotonic()
        await self._remove(sidecar.name)
        folder = tree.child(self.folder, sidecar.build_id)
        await in_thread(folder.mkdir, mode=0o700, exist_ok=True)
        image = await self._image(self.settings.image, note)
        mirror = await self._mirror(note)
        cache = await self._create(sidecar, image, mirror)
        await start(self.upstream, sidecar.name, folder, sidecar.build_id, self.settings.start_timeout)
        self._running[sidecar.build_id] = (sidecar.name, note)
        where = "an empty volume" if cache is None else f"its volume {cache}"
        note(f"a Docker daemon of this build's own is ready after {time.monotonic() - began:.1f} s, on {where}")

    async def _image(self, name: str, note: Callable[[str], None]) -> str:
        reference = str(references.parse(name))
        if await self.engine.image(reference) is None:
            await pull(self.engine, self.registries, reference, note)
        return reference

    async def _mirror(self, note: Callable[[str], None]) -> str | None:
        try:
            if self.settings.mirror_image is not None:
                await self._image(self.settings.mirror_image, note)
            return await self.mirror.url()
        except AgentError as error:  # what it has can be had without it
            note(f"images come straight from their registries: {error}")
            return None

    async def _create(self, sidecar: Sidecar, image: str, mirror: str | None) -> str | None:
        """Create its container on a volume that no other has: choosing and taking it are one step."""
        await self._ended(sidecar)
        async with self._choosing:
            cache = await self._free_cache(sidecar)
            if cache is not None:
                self._caches[sidecar.build_id] = cache
            body = daemon_body.body(image, self._within_place(mirror), **self._parts(sidecar, cache))
            (await self.upstream.ask("POST", "/containers/create", {"name": sidecar.name}, body)).done()
        return cache

    def _within_place(self, mirror: str | None) -> DaemonSettings:
        settings, place = self.settings, self.place
        most = {"memory": min(settings.memory, place.memory), "cpus": min(settings.cpus, place.cpus)}
        return settings.model_copy(update={**most, "mirror": mirror})

    def _parts(self, sidecar: Sidecar, cache: str | None) -> dict[str, Any]:
        """What its container is made of besides: see `daemon_body.body`."""
        mounts = [_part(self.place, f"{FOLDER}/{sidecar.build_id}", daemon_body.SOCKET), daemon_body.data(cache)]
        if not sidecar.builder:
            mounts += [_part(self.place, f"workspaces/{sidecar.build_id}", toolkit.WORKSPACE)]
        labels = {LABEL_SERVICE: self.place.service_id, LABEL_BUILD: sidecar.build_id, LABEL_ROLE: daemon_body.ROLE}
        network = f"container:{sidecar.container}"
        return {"builder": sidecar.builder, "network": network, "labels": labels, "mounts": mounts}

    async def _free_cache(self, sidecar: Sidecar) -> str | None:
        """A volume that is free. One that a build has had the whole daemon of is not used for builders."""
        ours = {LABEL_SERVICE: self.place.service_id, LABEL_ROLE: daemon_body.ROLE}
        held = {mount.source for each in await self.engine.list(ours) for mount in await self._mounts(each.name)}
        free = next((each for each in self._names(sidecar) if each not in held), None)
        if free is not None:
            labels = {
                LABEL_SERVICE: self.place.service_id,
                LABEL_ROLE: daemon_body.ROLE_CACHE,
                daemon_body.LABEL_DOMAIN: sidecar.domain,
            }
            await self.engine.ensure_volume(free, labels)
        return free

    def _names(self, sidecar: Sidecar) -> list[str]:
        whose = f"{sidecar.domain}\n{'builder' if sidecar.builder else 'daemon'}"
        digest = hashlib.sha256(whose.encode()).hexdigest()[:16]
        return [f"{_cache_prefix(self.place)}{digest}-{number}" for number in range(self.settings.volumes)]

    async def _ended(self, sidecar: Sidecar) -> None:
        """Wait for a daemon that is about to give up a volume of the domain's, for a while: an empty one costs more."""
        ending = [self._ending[name].wait() for name in self._names(sidecar) if name in self._ending]
        if ending:
            tasks = [asyncio.ensure_future(each) for each in ending]
            await asyncio.wait(tasks, timeout=2 * _STOP_GRACE, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()

    async def _mounts(self, name: str) -> list[MountPoint]:
        if await self.engine.container(name) is None:
            return []
        return [*await self.engine.mounts(name)]

    async def _see_size(self, cache: str) -> None:
        """Remove it if it is too large: what the daemon itself says of that cannot be trusted."""
        if (await disk.of_volumes(self.upstream)).get(cache, 0) > self.settings.cache_size:
            await self.upstream.ask("DELETE", f"/volumes/{cache}")


def _part(place: Place, subpath: str, target: str) -> dict[str, Any]:
    options = {"NoCopy": True, "Subpath": subpath}
    return {"Type": "volume", "Source": place.volume, "Target": target, "VolumeOptions": options}


def _cache_prefix(place: Place) -> str:
    return f"sibling-docker-{place.service_id[:12]}-"
