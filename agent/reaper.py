"""Two-way reconciliation of what is there with what the store says: nothing of a finished build stays.

Containers, workspaces, uploads, logs and artifacts. It looks at the truth each time, so that a crash at any moment, of
us or of the engine, is cleaned up by the next look.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.engine import LABEL_BUILD, LABEL_SERVICE
from agent.requests import BuildRequest, ImageBuildRequest, Request, UploadedSource
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from agent.build_log.logs import BuildLogs
    from agent.build_sockets import BuildSockets
    from agent.build_store import BuildStore
    from agent.docker_access.access import DockerAccess
    from agent.engine import Engine
    from agent.files.artifacts import Artifacts
    from agent.files.sources import Sources
    from agent.files.workspace import Workspaces
    from agent.images.keeper import Keeper
    from agent.metrics import Metrics
    from agent.settings import RetentionSettings

PERIOD = 10.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Reaper:
    """Removes leftovers of this service's own builds; never touches what carries no label of it."""

    engine: Engine
    store: BuildStore
    logs: BuildLogs
    workspaces: Workspaces
    sockets: BuildSockets
    docker: DockerAccess
    sources: Sources
    artifacts: Artifacts
    metrics: Metrics
    retention: RetentionSettings
    keeper: Keeper
    service_id: str
    running: Callable[[], Collection[str]]
    cancel: Callable[[str], Awaitable[object]]

    async def look(self) -> None:
        """One look over everything. Raises EngineError if the engine does not answer; the files are done first."""
        await in_thread(self._delete_old)
        await in_thread(self._clean_files)
        await self._clean_sockets()
        await self._cancel_orphans()
        await self._clean_containers()
        await self.docker.look(await in_thread(self._alive))
        await self.keeper.look()

    async def _clean_sockets(self) -> None:
        there = await in_thread(self.sockets.ids)
        alive = await in_thread(self._alive)
        for build_id in there:
            if build_id not in alive:
                await self.sockets.remove(build_id)

    async def _cancel_orphans(self) -> None:
        """What a build asked for from inside ends with it, also if we were killed in between."""
        for build in await in_thread(self.store.orphans):
            await self.cancel(build.id)

    async def _clean_containers(self) -> None:
        containers = await self.engine.list({LABEL_SERVICE: self.service_id})
        # Read after the list: a build that began in between is in it, one that ended meanwhile is done next time.
        alive = await in_thread(self._alive)
        for container in containers:
            # One without a build is the service's own, such as the agent of its registration node.
            if LABEL_BUILD in container.labels and container.labels[LABEL_BUILD] not in alive:
                await self.engine.remove(container.id)
                self.metrics.reaped.labels("container").inc()

    def _clean_files(self) -> None:
        workspaces = self.workspaces.ids()
        alive = self._alive()
        for build_id in workspaces:
            if build_id not in alive:
                self.workspaces.remove(build_id)
                self.metrics.reaped.labels("workspace").inc()

    def _delete_old(self) -> None:
        """Retention: finished builds beyond their age, and uploads that nobody used."""
        before = time.time() - self.retention.builds
        while self.store.delete_finished(before, first=self._delete_files):
            pass
        self.sources.remove_unused(self._sources_in_use(), time.time())

    def _delete_files(self, build_id: str) -> None:
        self.logs.delete(build_id)
        self.artifacts.delete(build_id)
        self.metrics.reaped.labels("build").inc()

    def _alive(self) -> set[str]:
        """Builds whose things must stay: what the store holds as begun, and what is being cleaned up by its runner."""
        return {build.id for build in self.store.running()} | set(self.running())

    def _sources_in_use(self) -> set[str]:
        sources = [_source_of(build.request) for build in self.store.unfinished()]
        return {source.id for source in sources if isinstance(source, UploadedSource)}


def _source_of(request: Request) -> object:
    if isinstance(request, ImageBuildRequest):
        return request.context
    return request.source if isinstance(request, BuildRequest) else None
