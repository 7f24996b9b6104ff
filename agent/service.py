"""The service: what the API asks for, and the lifetime of the loops behind it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog

from agent import callers, reaper
from agent.agents.registration import Health
from agent.builds import Build, BuildState, Reason
from agent.changes import Changes, within
from agent.errors import AgentError, EngineError, Unavailable
from agent.host import Host, read_host
from agent.images import names
from agent.oidc import IdTokens
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Coroutine
    from pathlib import Path

    from agent.admission import Admission
    from agent.agents.door import Door
    from agent.build_log.logs import BuildLogs
    from agent.build_sockets import BuildSockets
    from agent.build_store import BuildStore
    from agent.build_store.exchanges import Exchanged
    from agent.docker_access.access import DockerAccess
    from agent.engine import EngineInfo
    from agent.engine_watch import EngineWatch
    from agent.files.artifacts import Artifacts
    from agent.files.sources import Source, Sources
    from agent.images.cells import Cells
    from agent.metrics import Metrics
    from agent.policy import Place
    from agent.reaper import Reaper
    from agent.requests import Request
    from agent.scheduler import Scheduler
    from agent.settings import Settings
    from agent.tokens import Token

_log = structlog.get_logger()
VERSION = version("sibling-agent")
RETRY_PAUSE = 5.0  # seconds before a loop that failed is tried again


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that the service depends on; `reason` says what is wrong, or is None."""

    name: str
    reason: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ControllerStatus:
    """The controller as it was last seen; `error` is why it cannot be used, `waiting` how many items it has."""

    url: str
    version: str | None
    node: str
    waiting: int | None
    error: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What an admin wants to see at one look. `waiting_for` is why the head of the queue does not start."""

    service_id: str
    engine: EngineInfo
    engine_error: str | None
    host: Host
    slots: int
    slots_used: int
    counts: dict[BuildState, int]
    waiting_for: str | None
    draining: bool
    controller: ControllerStatus | None


@dataclass(kw_only=True)
class Service:
    """The parts, wired by `assembly.assemble`, and what can be asked of them together."""

    settings: Settings
    place: Place
    data_dir: Path
    store: BuildStore
    logs: BuildLogs
    sources: Sources
    sockets: BuildSockets
    docker: DockerAccess
    cells: Cells
    admission: Admission
    artifacts: Artifacts
    scheduler: Scheduler
    reaper: Reaper
    watch: EngineWatch
    changes: Changes
    metrics: Metrics
    door: Door | None = None

    def __post_init__(self) -> None:
        self.draining = False
        self._id_tokens = IdTokens(self.settings.oidc)
        self._faults: dict[str, str] = {}
        self._last_error: str | None = None
        self._store_looked_at = 0.0
        self._store_reason: str | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Go on with what was begun, and take builds, until the block ends; then drain, and leave what still runs."""
        await self.scheduler.recover()
        loops = [asyncio.create_task(self._loop(name, turn)) for name, turn in self._turns().items()]
        try:
            yield
            self.drain()
            await self._drained(self.settings.queue.drain)
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await self.scheduler.close()
            await self.sockets.close_all()
            await self.docker.hang_up_all()
            await self._remove_cells()
            if self.door is not None:
                await self.door.close()
            self.store.close()

    def drain(self, *, on: bool = True) -> None:
        """Start nothing more and let go of agents that no build has come to; or take builds again."""
        self.draining = self.scheduler.draining = on
        if self.door is not None:
            self.door.provisioner.draining = on
            self.door.view.wake()
        self.scheduler.wake()

    async def submit(self, request: Request, caller: Token, idempotency_key: str | None = None) -> tuple[Build, bool]:
        """Accept a build; it is durable when this returns. The flag tells whether it is new.

        Raises InvalidRequest, Rejected, Conflict (the key was used for another request) and Unavailable (queue full,
        or the service is draining).
        """
        if self.draining and caller.build is None:
            raise Unavailable("The service is draining and takes no builds. Ask another one, or try again later.")
        request = await in_thread(self.admission.admitted, request, caller)
        build, created = await in_thread(
            self.store.submit,
            request,
            caller.name,
            parent=caller.build,
            idempotency_key=idempotency_key,
            max_queued=self.settings.queue.max_queued,
        )
        self.scheduler.wake()
        return build, created

    async def build(self, build_id: str) -> Build:
        """The build's record. Raises NotFound."""
        return await in_thread(self.store.get, build_id)

    async def builds(
        self, caller: Token, states: Collection[BuildState], before: str | None, limit: int
    ) -> list[Build]:
        """Builds that the caller may see, newest first, older than the id `before`."""
        return await in_thread(self.store.list, states=states, parent=caller.build, before=before, limit=limit)

    async def images(self, caller: Token, tag: str | None, before: str | None, limit: int) -> list[Build]:
        """Image builds that made an image which the caller may see, newest first, older than the id `before`.

        With `tag` only those that gave it. Raises InvalidRequest if that is none.
        """
        owner = caller.name if caller.build is not None else None
        full = None if tag is None else names.tag(tag)
        return await in_thread(self.store.images, created_by=owner, tag=full, before=before, limit=limit)

    async def exchange(self, id_token: str) -> Exchanged:
        """Give a controller's build a token for its id token, once. It is good after a restart of the service too.

        Raises InvalidIdToken, Rejected, Conflict if the build had one, and Unavailable.
        """
        exchanged = await in_thread(self.store.exchanges.add, await self._id_tokens.verify(id_token))
        _log.info("id token exchanged", token=exchanged.token.id, name=exchanged.token.name)
        return exchanged

    async def inside(self, build_id: str) -> Token:
        """Who calls through the socket of a build. Raises NotFound, Unavailable."""
        return await callers.inside(self.store, build_id)

    async def finished(self, build_id: str, seconds: float) -> Build:
        """The build once it is finished, or as it is after so many seconds. Raises NotFound."""
        deadline = time.monotonic() + seconds
        build = await self.build(build_id)
        while build.state is not BuildState.FINISHED and time.monotonic() < deadline:
            changed = self.changes.next(build_id)
            build = await self.build(build_id)
            if build.state is not BuildState.FINISHED:
                await within(changed, deadline - time.monotonic())
                build = await self.build(build_id)
        return build

    async def logged(self, build_id: str) -> Build:
        """The build, for a reader of its log, which is ended if a crash left it open. Raises NotFound."""
        build = await self.build(build_id)
        if build.state is BuildState.FINISHED and not self.logs.complete(build_id):
            await in_thread(self._end_log, build)
        return build

    async def cancel(self, build_id: str) -> Build:
        """Ask a build to end; one that waits ends at once. A finished one stays as it is. Raises NotFound."""
        before = await self.build(build_id)
        build = await in_thread(self.store.request_cancel, build_id)
        if build.state is BuildState.FINISHED and before.state is BuildState.QUEUED:
            await in_thread(self._end_log, build)
            self.metrics.finished(build)
            self.changes.announce(build_id)
            self.scheduler.wake()
        self.scheduler.stop(build_id)
        return build

    async def withdraw(self, build_id: str) -> None:
        """Let go of an agent that nobody waits for any more."""
        if (await self.build(build_id)).state is BuildState.QUEUED:
            await self.cancel(build_id)
        else:
            self.scheduler.stop(build_id, Reason.UNUSED)

    async def upload(self, pieces: AsyncIterator[bytes]) -> Source:
        """Keep a source tree. Raises TooLarge and InvalidArchive; then nothing of it stays."""
        upload = await in_thread(self.sources.begin)
        try:
            async for piece in pieces:
                await in_thread(upload.write, piece)
            return await in_thread(upload.commit)
        finally:
            await in_thread(upload.abort)  # does nothing after a commit

    async def checks(self) -> list[Check]:
        """Each dependency by name, and what is wrong with it. Quick, since the engine is asked beforehand."""
        return [
            Check(name="engine", reason=self.watch.error),
            Check(name="store", reason=await in_thread(self._store_fault)),
            *([] if self.door is None else [Check(name="jenkins", reason=self.door.view.error)]),
            *(Check(name=name, reason=self._faults.get(name)) for name in self._turns() if name != "engine watch"),
        ]

    async def health(self) -> Health:
        """What the registration node says of the service; that the controller was away is its last error alone."""
        engine, settings, host = self.watch.info, self.settings, await in_thread(read_host, self.data_dir)
        wrong = {check.name: f"{check.name}: {check.reason}" for check in await self.checks() if check.reason}
        self._last_error = next(iter(wrong.values()), self._last_error)
        fault = next((reason for name, reason in wrong.items() if name != "jenkins"), None)
        text = (
            f"Sibling {VERSION} on Docker {engine.version}, {engine.os}; {settings.queue.slots} slots; "
            f"{_rough(host.disk_free)} of disk free. Last error: {(self._last_error or 'none').rstrip('.')}."
        )
        return Health(text=text, reason="it is draining" if self.draining else fault)

    async def status(self) -> Status:
        """The whole picture."""
        return Status(
            service_id=self.place.service_id,
            engine=self.watch.info,
            engine_error=self.watch.error,
            host=await in_thread(read_host, self.data_dir),
            slots=self.settings.queue.slots,
            slots_used=len(self.scheduler.running),
            counts=await in_thread(self.store.counts),
            waiting_for=self.scheduler.waiting_for,
            draining=self.draining,
            controller=self._controller_status(),
        )

    async def render_metrics(self) -> bytes:
        """The page for Prometheus."""
        counts = await in_thread(self.store.counts)
        host = await in_thread(read_host, self.data_dir)
        controller_up = None if self.door is None else self.door.view.error is None
        return self.metrics.render(
            counts, self.settings.queue.slots, host, engine_up=self.watch.up, controller_up=controller_up
        )

    def _turns(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        own = {
            "scheduler": self.scheduler.turn,
            "reaper": self._reap,
            "engine watch": self.watch.turn,
            "disk watch": self.docker.watch_disk,
        }
        return {**own, **({} if self.door is None else self.door.turns())}

    async def _remove_cells(self) -> None:
        try:
            await self.cells.close()
        except EngineError as error:  # the next start does it
            _log.warning("not all removed yet", error=str(error))

    async def _drained(self, seconds: float) -> None:
        """Wait until nothing runs any more, or for so long."""
        deadline = time.monotonic() + seconds
        while self.scheduler.running and time.monotonic() < deadline:
            self.scheduler.ended.clear()
            await within(self.scheduler.ended, deadline - time.monotonic())

    def _controller_status(self) -> ControllerStatus | None:
        if self.door is None:
            return None
        view = self.door.view
        return ControllerStatus(
            url=view.controller.url,
            version=None if view.info is None else view.info.version,
            node=self.door.registration.name,
            waiting=None if view.sight is None else len(view.sight.items),
            error=view.error,
        )

    def _end_log(self, build: Build) -> None:
        log = self.logs.open(build.id, secrets=(), max_bytes=self.settings.builds.max_log)
        log.finish(f"{build.outcome.result}: {build.outcome.message}" if build.outcome else None)

    def _store_fault(self) -> str | None:
        """What is wrong with the store; looked at once a second at most, since a look writes to the disk."""
        if time.monotonic() > self._store_looked_at + 1:
            try:
                self.store.check()
                self._store_reason = None
            except AgentError as error:
                self._store_reason = str(error)
            self._store_looked_at = time.monotonic()
        return self._store_reason

    async def _reap(self) -> None:
        await self.reaper.look()
        await asyncio.sleep(reaper.PERIOD)

    async def _loop(self, name: str, turn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Take one turn after another. What a turn raises makes the service unready until the next one went well."""
        while True:
            try:
                await turn()
            except AgentError as error:
                self._faults[name] = str(error)
                _log.warning("trying again", loop=name, error=str(error))
                await asyncio.sleep(RETRY_PAUSE)
            except Exception as error:  # noqa: BLE001 - see below
                # A fault of ours: it must be seen in /readyz, and must not end the other loops.
                self._faults[name] = repr(error)
                _log.exception("fault in Sibling; trying again", loop=name)
                await asyncio.sleep(RETRY_PAUSE)
            else:
                self._faults.pop(name, None)


def _rough(size: int) -> str:
    """Such as `800 GB`: two digits, since each change is written down on the controller."""
    gigabytes = size / 1e9
    step = 10 ** max(0, len(str(int(gigabytes))) - 2)
    return f"{int(gigabytes // step * step)} GB"
