"""One image build or push, from a claimed build to its published result.

It has no container of its own: BuildKit runs its steps, in the engine. Killed at any moment it is begun anew by the
next start, which finds done steps in BuildKit's cache, and layers that a registry has already.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from agent import bases, outcomes, policy
from agent.builds import Artifact, Build, BuildState, ImageRecord, Outcome, Reason, Result
from agent.engine import Stream
from agent.errors import (
    AgentError,
    BuildStepFailed,
    EngineError,
    ImageUnavailable,
    Rejected,
    StaleClaim,
    StoreUnavailable,
)
from agent.images import names
from agent.images.builder import BuildPlan
from agent.requests import ImageBuildRequest, ImagePushRequest
from agent.stop import Stopped
from agent.threads import in_thread
from agent.work import Held

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.build_log.logs import BuildLogs
    from agent.build_store import BuildStore
    from agent.engine import Engine
    from agent.files.artifacts import Artifacts
    from agent.files.workspace import Workspaces
    from agent.images.builder import Builder
    from agent.images.cells import Cells
    from agent.images.context import Context, Contexts
    from agent.images.hooks import Hooks
    from agent.images.pusher import Pusher
    from agent.policy import Limits, Place
    from agent.settings import Settings
    from agent.stop import Stop

_log = structlog.get_logger()
OUTPUT = "image.tar"  # the artifact of a build whose output is a tar


@dataclass(frozen=True, kw_only=True)
class ImageRunner:
    """Runs image builds and pushes, each by a call of `run`; a `BuildRunner`."""

    engine: Engine
    store: BuildStore
    logs: BuildLogs
    workspaces: Workspaces
    artifacts: Artifacts
    contexts: Contexts
    builder: Builder
    cells: Cells
    pusher: Pusher
    hooks: Hooks
    settings: Settings
    place: Place

    async def run(self, build: Build, stop: Stop, *, again: bool = False) -> Build:
        """See `BuildRunner`."""
        secrets = await in_thread(self.store.secrets, build.id)
        log = self.logs.open(build.id, secrets=secrets.values(), max_bytes=self.settings.builds.max_log)
        held = Held(self.store, build, stop, log, secrets)
        if again or build.attempt > 1:
            log.note("the service was restarted, or could not write down what it did: beginning again")
        else:
            held.phases.add("queued", time.time() - build.created_at)
        run = _Run(self, held)
        outcome, artifacts = await run.outcome()
        return await held.publish(outcome, artifacts, None if run.record == ImageRecord() else run.record)

    async def clean(self, build: Build) -> None:
        """The context, and the workspace that an output was written to."""
        try:
            await in_thread(self.contexts.remove, build.id)
            await in_thread(self.workspaces.remove, build.id)
        except AgentError as error:
            _log.warning("not all removed yet; the reaper will", build=build.id, error=str(error))


class _Run:
    """One run of one build; `record` is what it came to so far."""

    def __init__(self, runner: ImageRunner, held: Held) -> None:
        self._runner = runner
        self._held = held
        self.record = ImageRecord()

    async def outcome(self) -> tuple[Outcome, tuple[Artifact, ...]]:
        """Run it until it ended or could not."""
        held, runner = self._held, self._runner
        timeout = 0.0
        try:
            limits = policy.image_limits(held.build.request, runner.settings.images, runner.place)
            timeout = limits.timeout
            timer = asyncio.get_running_loop().call_later(timeout, held.stop.ask, Reason.TIMEOUT)
            try:
                return Outcome(result=Result.SUCCESS, exit_code=0), await self._work(limits)
            finally:
                timer.cancel()
        except Stopped:
            return outcomes.aborted(held.stop.reason or Reason.CANCELLED, timeout=timeout), ()
        except (StaleClaim, StoreUnavailable):
            raise
        except AgentError as error:
            return outcomes.failed(error, ran=held.build.started_at is not None), ()
        except Exception as error:  # noqa: BLE001 - a fault of ours ends as this build's result, not as a stuck build
            _log.exception("fault in Sibling", build=held.build.id)
            return outcomes.fault(error), ()

    async def _work(self, limits: Limits) -> tuple[Artifact, ...]:
        self._held.stop.check()
        # Meanwhile it begins: most of a small build's time would be waiting for the disk.
        told = asyncio.create_task(self._held.advance(state=BuildState.RUNNING, started_at=time.time()))
        try:
            return await self._do(limits)
        finally:
            await told

    async def _do(self, limits: Limits) -> tuple[Artifact, ...]:
        held = self._held
        request = held.build.request
        if isinstance(request, ImagePushRequest):
            await self._push_named(request)
            await self._run_hooks()
            return ()
        if not isinstance(request, ImageBuildRequest):
            raise TypeError(f"build {held.build.id} is of no image")
        await self._build(request, limits)
        if request.output is not None:
            return await self._bring_output()
        image = await self._keep(request)
        if request.push:
            await self._push(image, self.record.tags)
            await self._run_hooks()
        return ()

    async def _build(self, request: ImageBuildRequest, limits: Limits) -> None:
        held, runner = self._held, self._runner
        async with runner.cells.leased(limits) as parent:
            with held.phases("context"):
                context, mine = await self._prepared(request)
            held.stop.check()
            plan = await self._plan(request, context, mine, parent)
            with held.phases("build"):
                built = await runner.builder.build(plan, self._write, held.stop)
        self.record = replace(self.record, steps=built.steps, bases=built.bases)
        if built.error is not None:
            denied = bases.refusal(built.error, runner.settings.images.allowed_bases)
            raise denied or BuildStepFailed(built.error)

    async def _prepared(self, request: ImageBuildRequest) -> tuple[Context, dict[str, str]]:
        """The context, and the caller's own images; both are waited for, so that nothing is in the making after it."""
        made = in_thread(self._runner.contexts.make, self._held, request)
        context, mine = await asyncio.gather(made, self._mine(request), return_exceptions=True)
        if isinstance(context, BaseException):
            raise context
        if isinstance(mine, BaseException):
            raise mine
        return context, mine

    async def _plan(
        self, request: ImageBuildRequest, context: Context, mine: dict[str, str], parent: str | None
    ) -> BuildPlan:
        held, runner = self._held, self._runner
        images = runner.settings.images
        export_to = None
        if request.output is not None:
            export_to = await in_thread(runner.workspaces.make, held.build.id) / OUTPUT
        return BuildPlan(
            reference=self._private(held.build.id),
            request=request.model_copy(update={"pull": self._pulls(request)}),
            context=context.folder,
            dockerfile=context.dockerfile,
            secrets=held.secrets,
            source_policy=bases.source_policy(
                images.allowed_bases,
                own=sorted(set(mine.values())),
                mirrors=runner.pusher.registries.mirrors(),
                allow_remote_add=images.allow_remote_add,
                aliases=mine,
            ),
            cgroup_parent=parent,
            export_to=export_to,
        )

    def _pulls(self, request: ImageBuildRequest) -> bool:
        return request.pull or self._runner.settings.images.pull == "always"

    async def _mine(self, request: ImageBuildRequest) -> dict[str, str]:
        """The caller's names of images that the engine still has, and what it has them by.

        Whoever asks for newer bases wants those of the registry: BuildKit asks it for all of them, or for none.
        """
        if self._pulls(request):
            return {}
        tags = await in_thread(names.OwnImages(self._runner.store, self._held.build.created_by).by_tag)
        there = await self._runner.engine.tags(names.folder(self._runner.place.service_id)) if tags else ()
        return {name: private for name, build_id in tags.items() if (private := self._private(build_id)) in there}

    def _private(self, build_id: str) -> str:
        return names.private(self._runner.place.service_id, build_id)

    def _write(self, text: bytes) -> None:
        if text:
            self._held.log.write(Stream.STDOUT, text)

    async def _bring_output(self) -> tuple[Artifact, ...]:
        held, runner = self._held, self._runner
        workspace = runner.workspaces.path(held.build.id)
        size, most = (await in_thread((workspace / OUTPUT).stat)).st_size, runner.settings.images.max_output
        if size > most:
            raise Rejected("images.max_output", f"the output has {size} bytes, over the {most} that one may have")
        with held.phases("output"):
            return await in_thread(runner.artifacts.collect, held.build.id, workspace, [OUTPUT], note=held.log.note)

    async def _keep(self, request: ImageBuildRequest) -> str:
        """Take it into the record; returns its id. Raises Rejected if it is too large; then it does not stay."""
        reference, most = self._private(self._held.build.id), self._runner.settings.images.max_size
        image = await self._runner.engine.image(reference)
        if image is None:
            raise EngineError(f"image {reference} was built, but the engine does not have it")
        if image.size > most:
            await self._runner.engine.untag(reference)
            raise Rejected("images.max_size", f"the image has {image.size} bytes, over the {most} that one may have")
        tags = tuple(dict.fromkeys(map(names.tag, request.tags)))
        self.record = replace(self.record, id=image.id, size=image.size, tags=tags)
        return image.id

    async def _push_named(self, request: ImagePushRequest) -> None:
        own = names.OwnImages(self._runner.store, self._held.build.created_by)
        for name in dict.fromkeys(map(names.tag, request.images)):
            build = await in_thread(own.find, name)
            image = await self._runner.engine.image(self._private(build.id))
            if image is None:
                raise ImageUnavailable(
                    f"image {name}, of build {build.id}, is not kept any more (images.keep); build it again"
                )
            self.record = replace(self.record, id=image.id, size=image.size, tags=(*self.record.tags, name))
            await self._push(image.id, (name,))

    async def _run_hooks(self) -> None:
        if self._runner.settings.hooks:
            with self._held.phases("hooks"):
                await self._runner.hooks.run(self._held, self.record.pushed)

    async def _push(self, image: str, tags: Sequence[str]) -> None:
        done = list(self.record.pushed)
        try:
            with self._held.phases("push"):
                await self._runner.pusher.push(image, tags, self._held.stop, self._held.log.note, done)
        finally:
            self.record = replace(self.record, pushed=tuple(done), digest=done[-1].digest if done else None)
