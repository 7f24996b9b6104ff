"""The life of one build's container, from a claimed build to a published result and nothing left.

The only place that orders the engine's verbs for builds. It is killed without warning and started again: whatever it
does, a new run of the same build finds the container by its name and goes on from there. What the container is for, a
command or an agent, is its `Work`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import stamina
import structlog

from agent import outcomes
from agent.builds import Artifact, Build, Outcome, Reason
from agent.container_output import ContainerOutput
from agent.engine import container_name
from agent.errors import (
    AgentError,
    ContainerNotFound,
    EngineError,
    EngineUnavailable,
    StaleClaim,
    StoreUnavailable,
)
from agent.stop import Stop, Stopped
from agent.threads import in_thread
from agent.work import Held

if TYPE_CHECKING:
    from collections.abc import Callable

    import anyio

    from agent.build_log.logs import BuildLogs
    from agent.build_sockets import BuildSockets
    from agent.build_store import BuildStore
    from agent.docker_access.access import DockerAccess
    from agent.engine import Engine, OutputStream
    from agent.files.workspace import Workspaces
    from agent.policy import Place
    from agent.preparation import Preparation
    from agent.settings import Settings
    from agent.work import Work

_log = structlog.get_logger()
ENGINE_PAUSE = 1.0  # seconds between tries while the engine is away


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Runs builds, each by a call of `run`. Shared by all of them; what belongs to one is in `_Run`."""

    engine: Engine
    store: BuildStore
    logs: BuildLogs
    workspaces: Workspaces
    sockets: BuildSockets
    docker: DockerAccess
    preparation: Preparation
    settings: Settings
    place: Place
    starts: anyio.CapacityLimiter
    work: Callable[[Held], Work]

    async def run(self, build: Build, stop: Stop, *, again: bool = False) -> Build:
        """See `BuildRunner`."""
        secrets = await in_thread(self.store.secrets, build.id)
        log = self.logs.open(build.id, secrets=secrets.values(), max_bytes=self.settings.builds.max_log)
        held = Held(self.store, build, stop, log, secrets)
        artifacts: tuple[Artifact, ...] = ()
        try:
            run = _Run(self, held, look=again or build.attempt > 1)
        except AgentError as error:  # the settings have changed since it was accepted
            outcome = outcomes.failed(error, ran=build.started_at is not None)
        else:
            outcome, artifacts = await run.outcome()
        await self.sockets.close(build.id)
        return await held.publish(outcome, artifacts)

    async def clean(self, build: Build) -> None:
        """Remove the build's container, workspace and socket. The reaper tries again where the engine refuses."""
        try:
            async for attempt in stamina.retry_context(on=EngineError, attempts=4, wait_initial=0.2, wait_max=2.0):
                with attempt:
                    await self.engine.remove(container_name(build.id))
                    await self.docker.close(build.id)
            await in_thread(self.workspaces.remove, build.id)
            await self.sockets.remove(build.id)
        except AgentError as error:
            _log.warning("not all removed yet; the reaper will", build=build.id, error=str(error))


class _Run:
    """One run of one build."""

    def __init__(self, runner: Runner, held: Held, *, look: bool) -> None:
        self._runner = runner
        self._engine = runner.engine
        self._held = held
        self._stop = held.stop
        self._name = container_name(held.build.id)
        if not look:
            held.phases.add("queued", time.time() - held.build.created_at)
        self._work = runner.work(held)
        self._look = look  # whether a container may be there already
        self._image_id = held.build.image_id
        self._over = asyncio.Event()  # the container ended, or we lost it
        self.ran = held.build.started_at is not None

    async def outcome(self) -> tuple[Outcome, tuple[Artifact, ...]]:
        """Run it, or go on with it, until it ended or could not; then what it leaves."""
        try:
            ended = await self._patiently()
        except Stopped:
            ended = outcomes.aborted(self._stop.reason or Reason.CANCELLED)
        except (StaleClaim, StoreUnavailable):
            raise
        except AgentError as error:
            ended = outcomes.failed(error, ran=self.ran)
        except Exception as error:  # noqa: BLE001 - see outcomes.fault
            _log.exception("fault in Sibling", build=self._held.build.id)
            ended = outcomes.fault(error)
        await self._runner.docker.hang_up(self._held.build.id)
        return await self._work.conclude(ended, ran=self.ran)

    async def _patiently(self) -> Outcome:
        """Begin, or go on, as often as an engine that comes and goes makes it necessary, and follow to the end."""
        deadline = time.monotonic() + self._runner.settings.engine.patience
        while True:
            try:
                stream = None if self._look and await self._exists() else await self._begin()
                break
            except EngineUnavailable:
                # Nothing ran yet, or we do not know: find out what is there once the engine answers.
                if time.monotonic() > deadline:
                    raise
                self._look = True
                await self._stop.or_else(asyncio.sleep(ENGINE_PAUSE))
        return await self._to_end(stream)

    async def _exists(self) -> bool:
        """Whether the container was started before. One that was only created is removed."""
        container = await self._engine.container(self._name)
        if container is None and self.ran:
            raise ContainerNotFound("its container is gone: someone or something removed it while the service was away")
        if container is not None and container.state == "created":
            await self._engine.remove(self._name)
            return False
        self.ran = container is not None
        if self.ran:
            await self._runner.sockets.open(self._held.build.id)
            await self._open_docker()
        return self.ran

    async def _begin(self) -> OutputStream:
        """From nothing to a started container, and its output."""
        self._stop.check()
        held, preparation = self._held, self._runner.preparation
        if held.build.container.docker == "host":
            held.log.note("docker = host: this build holds the socket of the host's Docker, and so the host")
        spec = await self._work.spec()
        # Both are waited for, whatever the other comes to: nothing must be in the making when it is cleaned up.
        image, task = await asyncio.gather(
            preparation.prepare(held.build, spec.image, held.stop, held.phases, held.secrets, held.log.note),
            self._work.ready(),
            return_exceptions=True,
        )
        if isinstance(image, BaseException):
            raise image
        if isinstance(task, BaseException):
            raise task
        self._image_id = image.id
        await in_thread(self._work.furnish)
        await self._runner.sockets.open(held.build.id)
        async with self._runner.starts:
            self._stop.check()
            with held.phases("create"):
                container = await self._engine.create(self._name, spec)
                await preparation.see_it_can_start(container, image)
                await preparation.give_to_user(held.build, container, image)
                await preparation.give_shell(held.build, container, image)
                await self._open_docker()
                await self._runner.docker.link(held.build, container)
                stream = await self._engine.attach(container, task)
            try:
                with held.phases("start"):
                    await self._engine.start(container)
            except BaseException:
                stream.close()
                raise
        self.ran = True
        return stream

    async def _open_docker(self) -> None:
        await self._runner.docker.open(self._held.build, self._name, self._held.log.note)

    async def _to_end(self, stream: OutputStream | None) -> Outcome:
        """Follow it to its end, while its work is attended to, and tell the store meanwhile that it was started."""
        held = self._held
        started = held.build.started_at or time.time()
        output = ContainerOutput(self._engine, self._name, held.log, self._runner.settings.engine.patience)
        attending = asyncio.create_task(self._attend(started))
        try:
            status = await output.to_end(stream)
        finally:
            self._over.set()
            self._work.ended()
            await attending
        return self._work.judge(status, engine_lost=output.lost)

    async def _attend(self, started: float) -> None:
        # The store may be away for a while; a stop must work all the same.
        told, attended = await asyncio.gather(
            self._held.advance(
                state=self._work.started_state,
                started_at=started,
                image_id=self._image_id,
                phases=self._held.phases.seconds,
            ),
            self._work.attend(started, self._halt),
            return_exceptions=True,
        )
        for fault in (told, attended):
            if fault is not None:
                raise fault

    async def _halt(self, grace: float) -> None:
        """Stop the container, and go on until the engine did it, or until it is over anyway."""
        stopping = asyncio.create_task(self._stop_container(grace))
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({stopping, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            over.cancel()

    async def _stop_container(self, grace: float) -> None:
        while True:
            try:
                return await self._engine.stop(self._name, grace)
            except EngineError:
                await asyncio.sleep(ENGINE_PAUSE)
