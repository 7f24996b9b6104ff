"""The life of one build's container, from a claimed build to a published result and nothing left.

The only place that orders the engine's verbs. It is killed without warning and started again: whatever it does, a new
run of the same build finds the container by its name and goes on from there.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import stamina
import structlog

from agent import outcomes, policy, toolkit
from agent.builds import Artifact, Build, BuildState, Outcome, Reason, Result
from agent.container_output import ContainerOutput
from agent.errors import (
    AgentError,
    ContainerNotFound,
    EngineError,
    EngineUnavailable,
    LogFailed,
    StaleClaim,
    StoreUnavailable,
)
from agent.phases import Phases
from agent.stop import Stop, Stopped
from agent.threads import in_thread

if TYPE_CHECKING:
    import anyio

    from agent.build_log import BuildLog
    from agent.build_log.logs import BuildLogs
    from agent.build_store import BuildStore
    from agent.engine import Engine, OutputStream
    from agent.files.artifacts import Artifacts
    from agent.files.workspace import Workspaces
    from agent.policy import Place
    from agent.preparation import Preparation
    from agent.settings import Settings

_log = structlog.get_logger()
ENGINE_PAUSE = 1.0  # seconds between tries while the engine is away


def container_name(build_id: str) -> str:
    """The one name that a build's container has: whoever comes after a crash finds it by that."""
    return f"sibling-{build_id}"


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Runs builds, each by a call of `run`. Shared by all of them; what belongs to one is in `_Run`."""

    engine: Engine
    store: BuildStore
    logs: BuildLogs
    workspaces: Workspaces
    artifacts: Artifacts
    preparation: Preparation
    settings: Settings
    place: Place
    starts: anyio.CapacityLimiter

    async def run(self, build: Build, stop: Stop, *, again: bool = False) -> Build:
        """Take a claimed build to its published result and return its record; the caller then calls `clean`.

        `again` tells that an earlier call for the same claim may have started the container. Raises StoreUnavailable;
        then it must be called again. Raises StaleClaim if the build is another's by now; then nothing of it was
        touched.
        """
        secrets = await in_thread(self.store.secrets, build.id)
        log = self.logs.open(build.id, secrets=secrets.values(), max_bytes=self.settings.builds.max_log)
        run = _Run(self, build, stop, log, secrets, look=again or build.attempt > 1)
        outcome = await run.outcome()
        artifacts: tuple[Artifact, ...] = ()
        if run.ran and build.request.artifacts:
            outcome, artifacts = await run.collect(outcome)
        return await run.publish(outcome, artifacts)

    async def clean(self, build: Build) -> None:
        """Remove the build's container and workspace. The reaper tries again where the engine refuses."""
        try:
            async for attempt in stamina.retry_context(on=EngineError, attempts=4, wait_initial=0.2, wait_max=2.0):
                with attempt:
                    await self.engine.remove(container_name(build.id))
            await in_thread(self.workspaces.remove, build.id)
        except AgentError as error:
            _log.warning("not all removed yet; the reaper will", build=build.id, error=str(error))


class _Run:
    """One run of one build."""

    def __init__(
        self, runner: Runner, build: Build, stop: Stop, log: BuildLog, secrets: dict[str, str], *, look: bool
    ) -> None:
        self._runner = runner
        self._engine = runner.engine
        self._settings = runner.settings
        self._build = build
        self._stop = stop
        self._log = log
        self._secrets = secrets
        self._name = container_name(build.id)
        self._phases = Phases(build.phases)
        if not look:
            self._phases.add("queued", time.time() - build.created_at)
        self._limits = policy.limits(build.request, runner.settings.builds, runner.place)
        self._look = look  # whether a container may be there already
        self._image_id = build.image_id
        self._stopping: Reason | None = None
        self.ran = build.state is BuildState.RUNNING

    async def outcome(self) -> Outcome:
        """Run it, or go on with it, until it ended or could not."""
        try:
            return await self._patiently()
        except Stopped:
            return outcomes.aborted(self._stop.reason or Reason.CANCELLED, self._limits)
        except (StaleClaim, StoreUnavailable):
            raise
        except AgentError as error:
            return outcomes.failed(error, ran=self.ran)
        except Exception as error:  # noqa: BLE001 - see below
            # A fault of ours must end as this build's result, with its trace in the service's log, not as a stuck
            # build.
            _log.exception("fault in Sibling", build=self._build.id)
            return Outcome(result=Result.FAILURE, reason=Reason.INTERNAL, message=f"a fault in Sibling: {error!r}")

    async def collect(self, outcome: Outcome) -> tuple[Outcome, tuple[Artifact, ...]]:
        """Bring the artifacts home. A build that did its work but cannot hand it over has failed."""
        request, runner = self._build.request, self._runner
        workspace = runner.workspaces.path(self._build.id)
        try:
            with self._phases("artifacts"):
                found = await in_thread(
                    runner.artifacts.collect, self._build.id, workspace, request.artifacts, note=self._log.note
                )
        except AgentError as error:
            if outcome.result is not Result.SUCCESS:
                return outcome, ()
            return Outcome(
                result=Result.FAILURE, reason=Reason.ARTIFACTS, message=str(error), exit_code=outcome.exit_code
            ), ()
        return outcome, found

    async def publish(self, outcome: Outcome, artifacts: tuple[Artifact, ...]) -> Build:
        """End the log, then the build, so that whoever sees a result can read all of its log."""
        note = None
        if outcome.result is not Result.SUCCESS:
            note = f"{outcome.result}: {outcome.message} ({self._phases})"
        try:
            await in_thread(self._log.finish, note)
        except LogFailed as error:
            outcome = Outcome(
                result=Result.FAILURE, reason=Reason.INTERNAL, message=str(error), exit_code=outcome.exit_code
            )
        return await in_thread(
            self._runner.store.finish, self._build, outcome, phases=self._phases.seconds, artifacts=artifacts
        )

    async def _patiently(self) -> Outcome:
        """Begin, or go on, as often as an engine that comes and goes makes it necessary, and follow to the end."""
        deadline = time.monotonic() + self._settings.engine.patience
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
        return self.ran

    async def _begin(self) -> OutputStream:
        """From nothing to a started container, and its output."""
        self._stop.check()
        preparation = self._runner.preparation
        spec = policy.container_spec(self._build, self._settings.builds, self._runner.place)
        image = await preparation.prepare(
            self._build, spec.image, self._stop, self._phases, self._secrets, self._log.note
        )
        self._image_id = image.id
        async with self._runner.starts:
            self._stop.check()
            with self._phases("create"):
                container = await self._engine.create(self._name, spec)
                await preparation.give_to_user(self._build, container, image)
                stream = await self._engine.attach(container, toolkit.task(self._build.request, self._secrets))
            try:
                with self._phases("start"):
                    await self._engine.start(container)
            except BaseException:
                stream.close()
                raise
        self.ran = True
        return stream

    async def _to_end(self, stream: OutputStream | None) -> Outcome:
        """Follow it to its end, stopping it when that is due, and tell the store meanwhile that it runs."""
        started = self._build.started_at or time.time()
        output = ContainerOutput(self._engine, self._name, self._log, self._settings.engine.patience)
        running = asyncio.create_task(self._mark_running(started))
        watch = asyncio.create_task(self._stop_when_due(started))
        try:
            status = await output.to_end(stream)
        finally:
            watch.cancel()
            self._phases.add("run", time.time() - started)  # from its start, whoever of us saw that
            self._build = await running
        return outcomes.ended(status, stopped=self._stopping, engine_lost=output.lost, limits=self._limits)

    async def _mark_running(self, started: float) -> Build:
        return await in_thread(
            self._runner.store.advance,
            self._build,
            state=BuildState.RUNNING,
            started_at=started,
            image_id=self._image_id,
            phases=self._phases.seconds,
        )

    async def _stop_when_due(self, started: float) -> None:
        """Stop the container when someone asks for it, or at the timeout, and go on until the engine did it."""
        try:
            async with asyncio.timeout(max(0.0, started + self._limits.timeout - time.time())):
                await self._stop.wait()
        except TimeoutError:
            self._stop.ask(Reason.TIMEOUT)
        self._stopping = self._stop.reason
        while True:
            try:
                return await self._engine.stop(self._name, self._settings.engine.stop_grace)
            except EngineError:
                await asyncio.sleep(ENGINE_PAUSE)
