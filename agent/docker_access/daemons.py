"""A Docker daemon for one build, in a container beside the build's and in its network, as in a pod.

The build has the whole of it (`isolated`), or its builder alone, by way of the build's gate (`scoped`).

Its data are in a volume that is kept for its trust domain, so that the next build finds its images and its build cache.
Such a volume is held by one daemon at a time; which are held is told by the engine, so that a kill of the service
changes nothing. A build that finds all of them held gets an empty one that goes with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from agent import references
from agent.docker_access import daemon_body, rights
from agent.engine import LABEL_ROLE, LABEL_SERVICE
from agent.errors import AgentError, EngineError, EngineUnavailable
from agent.files import tree
from agent.gate.upstream import Upstream, connect
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from agent.docker_access.daemon_body import Sidecar
    from agent.engine import Engine, MountPoint
    from agent.gate.upstream import Connection
    from agent.policy import Place
    from agent.registries import Registries
    from agent.settings.daemon import DaemonSettings

_STOP_GRACE = 5.0  # seconds, in which it lets go of its data whole
_PAUSE = 0.05
_LAST_WORDS = 1000  # bytes of its log that are shown if it does not start


@dataclass(frozen=True, kw_only=True)
class Daemons:
    """Those of one service; `folder` has their sockets, each in a folder that its container writes to."""

    engine: Engine
    upstream: Upstream
    registries: Registries
    settings: DaemonSettings
    place: Place
    folder: Path
    _starts: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _choosing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _caches: dict[str, str] = field(default_factory=dict)  # by build
    _ending: dict[str, asyncio.Event] = field(default_factory=dict)  # by cache

    def __post_init__(self) -> None:
        """The folder, for us alone."""
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def ids(self) -> list[str]:
        """The builds that have, or had, a daemon. Blocks."""
        return [each.name for each in self.folder.iterdir()]

    async def connect(self, sidecar: Sidecar, note: Callable[[str], None]) -> Connection:
        """A connection to a build's daemon; the first one starts it. Raises AgentError."""
        start = self._starts.get(sidecar.build_id)
        if start is None or (start.done() and (start.cancelled() or start.exception() is not None)):
            start = self._starts[sidecar.build_id] = asyncio.create_task(self._start(sidecar, note))
        await asyncio.shield(start)
        return await self._connected(sidecar.build_id)

    def ends(self, build_id: str) -> None:
        """It is about to be stopped: who wants its cache had better wait for it."""
        if (cache := self._caches.pop(build_id, None)) is not None:
            self._ending[cache] = asyncio.Event()

    async def stop(self, build_id: str, container: str) -> None:
        """End it, and keep its data if they are not too large. Does nothing if there is none. Raises AgentError."""
        self.ends(build_id)
        if (start := self._starts.pop(build_id, None)) is not None:
            start.cancel()
            await asyncio.gather(start, return_exceptions=True)
        name = daemon_body.daemon_name(container)
        caches = [each.source for each in await self._mounts(name) if each.source.startswith(_cache_prefix(self.place))]
        try:
            await self.engine.stop(name, _STOP_GRACE)
            await self.engine.remove(name)
            for cache in caches:
                await self._see_size(cache)
        finally:
            for cache in caches:
                if (ending := self._ending.pop(cache, None)) is not None:
                    ending.set()
        await in_thread(tree.remove, tree.child(self.folder, build_id))

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
            return
        began = time.monotonic()
        await self.engine.remove(sidecar.name)
        folder = tree.child(self.folder, sidecar.build_id)
        await in_thread(folder.mkdir, mode=0o700, exist_ok=True)
        image = await self._image(self.settings.image, note)
        cache = await self._create(sidecar, image)
        try:
            await self.engine.start(sidecar.name)
            daemon = Upstream(partial(self._connected, sidecar.build_id))
            await self._answering(daemon, sidecar, began)
            await _begin_anew(daemon)
        except BaseException:
            await self.engine.remove(sidecar.name)  # else the next try would take it for one that is ready
            raise
        where = "an empty volume" if cache is None else f"its volume {cache}"
        note(f"a Docker daemon of this build's own is ready after {time.monotonic() - began:.1f} s, on {where}")

    async def _image(self, name: str, note: Callable[[str], None]) -> str:
        reference = references.parse(name)
        if await self.engine.image(str(reference)) is None:
            await self.engine.pull(str(reference), note, await self.registries.login(reference.domain))
        return str(reference)

    async def _create(self, sidecar: Sidecar, image: str) -> str | None:
        """Create its container on a volume that no other has: choosing and taking it are one step."""
        await self._ended(sidecar)
        async with self._choosing:
            cache = await self._free_cache(sidecar)
            if cache is not None:
                self._caches[sidecar.build_id] = cache
            body = daemon_body.body(sidecar, cache, self.settings, self.place, image)
            (await self.upstream.ask("POST", "/containers/create", {"name": sidecar.name}, body)).done()
        return cache

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

    async def _answering(self, daemon: Upstream, sidecar: Sidecar, began: float) -> None:
        """Wait until it answers."""
        while True:
            with suppress(EngineUnavailable):
                if (await daemon.ask("GET", "/_ping")).ok:
                    return
            there = await self.engine.container(sidecar.name)
            late = time.monotonic() - began > self.settings.start_timeout
            if there is None or there.state != "running" or late:
                why = f"does not answer after {self.settings.start_timeout:g} s" if late else "ended at once"
                words = await self._last_words(sidecar.name)
                raise EngineError(f"the Docker daemon of build {sidecar.build_id} {why}; its last words: {words}")
            await asyncio.sleep(_PAUSE)

    async def _last_words(self, name: str) -> str:
        query = {"stdout": "1", "stderr": "1", "tail": "20"}
        answer = await self.upstream.ask("GET", f"/containers/{name}/logs", query)
        return answer.content[-_LAST_WORDS:].decode("utf-8", "replace").strip() or "none"

    async def _see_size(self, cache: str) -> None:
        """Remove it if it is too large: what the daemon itself says of that cannot be trusted."""
        found = (await self.upstream.ask("GET", "/system/df", {"type": "volume"})).done().json()
        sizes = {each["Name"]: (each.get("UsageData") or {}).get("Size", 0) for each in found["Volumes"] or ()}
        if sizes.get(cache, 0) > self.settings.cache_size:
            await self.upstream.ask("DELETE", f"/volumes/{cache}")

    async def _connected(self, build_id: str) -> Connection:
        with self._socket(build_id) as path:
            try:
                return await connect(path)
            except EngineUnavailable as error:
                raise EngineUnavailable(f"the Docker daemon of build {build_id} is gone: {error}") from error

    @contextmanager
    def _socket(self, build_id: str) -> Iterator[str]:
        """A path of its socket that leads nowhere else.

        Whoever has the daemon is root in its container, and can put there what he likes: a link to the host's own
        socket. So can what an earlier build left on the volume, such as a plugin, before we have asked anything.
        """
        try:
            with tree.opened(tree.child(self.folder, build_id)) as folder:
                socket = os.open(daemon_body.NAME, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as error:
            raise EngineUnavailable(f"the Docker daemon of build {build_id} is gone: {error.strerror}") from error
        try:
            if not stat.S_ISSOCK(os.fstat(socket).st_mode):
                raise AgentError(f"the socket of the Docker daemon of build {build_id} is none any more")
            yield f"/proc/self/fd/{socket}"
        finally:
            os.close(socket)


def _cache_prefix(place: Place) -> str:
    return f"sibling-docker-{place.service_id[:12]}-"


async def _begin_anew(daemon: Upstream) -> None:
    """Remove what an earlier build left there, but images and build cache."""
    for container in (await daemon.ask("GET", "/containers/json", {"all": "1"})).done().json():
        await daemon.ask("DELETE", f"/containers/{container['Id']}", {"force": "1", "v": "1"})
    await daemon.ask("POST", "/volumes/prune", {"filters": '{"all": ["true"]}'})
    await daemon.ask("POST", "/networks/prune")
