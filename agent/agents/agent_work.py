"""The work of an agent: its node, its connection, the one build that comes to it, and what is said when it dies.

It is nudged by whatever may have changed (a look at the controller, a folder in the workspace, a wish to stop) and then
judges the present anew; so it can begin at any point, as after a crash of the service.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import stamina

from agent import outcomes, policy, toolkit
from agent.agents.beginnings import begun
from agent.agents.job_watch import JobWatch
from agent.agents.last_words import Death, death, job_ended
from agent.agents.node import NOT_NEEDED, AgentNode
from agent.agents.record import Record
from agent.builds import Artifact, BuildState, Outcome, Reason, Result
from agent.errors import ControllerError, ControllerRefused, ControllerUnavailable, EngineError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.agents.beginnings import Beginnings
    from agent.agents.outfit import Kit, Outfit
    from agent.agents.view import View
    from agent.controller import Computer, Controller
    from agent.engine import ContainerSpec, Engine, ExitStatus
    from agent.files.workspace import Workspaces
    from agent.metrics import Metrics
    from agent.policy import Place
    from agent.requests import AgentRequest
    from agent.settings import Settings
    from agent.work import Halt, Held

CONCLUDING = 30.0  # seconds that an ended agent waits for a controller that does not answer, or does not know us yet
MEASURE_EVERY = 5.0  # seconds between looks at its memory, of which the engine forgets the peak when it ends
MISSING = 2  # looks in which a node must be missing before we believe it
SURE_OF_FAILURE = 2  # looks at a failed job in which the agent must live, since the engine tells of its end a bit later
_LAST_WORDS = 2000  # bytes of the agent's log that are shown when it died


@dataclass(frozen=True, kw_only=True)
class Agents:
    """What all agents share; called with a claimed build it gives its work."""

    settings: Settings
    place: Place
    engine: Engine
    workspaces: Workspaces
    controller: Controller
    view: View
    outfit: Outfit
    beginnings: Beginnings
    metrics: Metrics
    unwanted: Callable[[], Mapping[str, float]]

    def __call__(self, held: Held) -> AgentWork:
        """The work of this agent."""
        return AgentWork(self, held)


class AgentWork:
    """See `Work`."""

    started_state: BuildState | None = None

    def __init__(self, agents: Agents, held: Held) -> None:
        request = cast("AgentRequest", held.build.request)
        self._agents = agents
        self._settings = agents.settings.jenkins
        self._held = held
        self._request = request
        self._record = Record(held)
        self._node = AgentNode(agents.controller, held.build, request, agents.place.service_id)
        self._workspace = agents.workspaces.path(held.build.id)
        self._kit: Kit | None = None
        self._nudge = asyncio.Event()
        self._over = False
        self._end: Outcome | None = None  # how it ended, if we ended it
        self._missing = self._failed_looks = 0
        self._began = self._begun = 0.0  # container and build, by the monotonic clock, as all that follow
        self._measured = 0.0
        self._peak = 0

    # ------------------------------------------------------------------------------------------- before the start

    async def spec(self) -> ContainerSpec:
        """What policy makes of the request, with the controller's own agent program."""
        self._kit = await self._held.stop.or_else(self._agents.outfit.kit())
        return policy.agent_spec(self._held.build, self._agents.settings.builds, self._agents.place, self._kit.path)

    async def ready(self) -> bytes:
        """The node, which must be there before its agent knocks; and the agent's command."""
        with self._held.phases("node"):
            await self._node.ensure()
            secret = await self._node.secret()
        return toolkit.agent_task(
            url=self._url,
            name=self._node.name,
            secret=secret,
            heap=self._request.heap,
            archive=self._kit is not None and self._kit.archive,
        )

    def furnish(self) -> None:
        """The jars that every agent needs, and the folders of its caches."""
        self._agents.outfit.furnish(self._workspace, self._request.caches)

    # --------------------------------------------------------------------------------------------- while it runs

    async def attend(self, started: float, halt: Halt) -> None:
        """Follow it from its connection to the end of its one build, then end it."""
        self._began = time.monotonic() - max(0.0, time.time() - started)
        view, beginnings = self._agents.view, self._agents.beginnings
        self._held.stop.tell(self._nudge)
        view.watch(self._nudge)
        with suppress(OSError):  # no watch to be had, or no folder any more: the looks at the controller tell as well
            beginnings.watch(self._workspace, self._nudge)
        self._nudge.set()  # it may be far already
        try:
            while not self._over and self._end is None:
                await self._nudge.wait()
                self._nudge.clear()
                if not self._over:
                    await self._look()
            if not self._over:
                await halt(0)
        finally:
            view.unwatch(self._nudge)
            beginnings.unwatch(self._workspace)

    def ended(self) -> None:
        """Its container is gone; nothing is left to attend to."""
        self._over = True
        self._nudge.set()

    async def _look(self) -> None:
        try:
            await self._step()
            await self._record.write()
        except ControllerError as error:
            self._agents.view.fault(error)  # seen in /readyz; the next look tries again
        except (StoreUnavailable, EngineError):
            return  # both have checks of their own; the next look tries again

    async def _step(self) -> None:
        sight = self._agents.view.sight
        computer = sight.computers.get(self._node.name) if sight is not None else None
        if self._record.now.begun_at is None:
            if begun(self._workspace) or (computer is not None and computer.executables):
                await self._note_beginning()
        elif not self._node.closed:
            await self._node.close()
        if sight is None or sight.at < self._began:
            return
        self._missing = self._missing + 1 if computer is None else 0
        if computer is None:
            await self._note_missing()
        elif self._record.now.begun_at is None:
            await self._await_build(computer)
        elif sight.at > self._begun:
            await self._measure()
            if await self._job.is_over(sight, computer):
                await self._finish()

    async def _note_missing(self) -> None:
        if self._missing < MISSING:
            return
        removed = f"its node {self._node.name} was removed from the controller"
        if self._record.now.begun_at is None:
            self._end = Outcome(result=Result.ABORTED, reason=Reason.CONTROLLER, message=removed)
        else:  # maybe by us, if an earlier life of the service came that far
            self._end = await self._job.outcome(while_running=removed)

    async def _await_build(self, computer: Computer) -> None:
        if self._record.now.connected_at is None and not computer.offline:
            self._held.phases.add("connect", time.monotonic() - self._began)
            await self._record.change(BuildState.CONNECTED, connected_at=time.time())
        if self._held.stop.asked():
            await self._retire(self._held.stop.reason or Reason.CANCELLED)
        elif self._record.now.connected_at is None:
            self._check_connection(computer)
        elif self._is_long_unwanted():
            await self._retire(Reason.UNUSED)

    def _check_connection(self, computer: Computer) -> None:
        since = max(self._began, self._agents.view.since)
        if time.monotonic() - since > self._settings.connect_timeout:
            self._end = Outcome(
                result=Result.NOT_BUILT,
                reason=Reason.CONNECTION,
                message=f"the agent did not connect to {self._url} within {self._settings.connect_timeout:g} s"
                f"{f' ({computer.reason})' if computer.reason else ''}; its last words: {self._last_words()}",
            )

    def _is_long_unwanted(self) -> bool:
        since = self._agents.unwanted().get(self._held.build.id)
        return since is not None and time.monotonic() - since > self._settings.idle_timeout

    async def _retire(self, reason: Reason) -> None:
        """End it unless a build came at the very last moment: only a look after the node was closed can tell."""
        await self._node.close(NOT_NEEDED)
        sight = await self._agents.view.look()
        computer = sight.computers.get(self._node.name)
        if begun(self._workspace) or (computer is not None and computer.executables):
            await self._note_beginning()
        else:
            await self._node.remove()
            self._end = outcomes.aborted(reason)

    async def _note_beginning(self) -> None:
        with suppress(ControllerError):  # each look tries again until it is done
            await self._node.close()
        now, self._begun = time.time(), time.monotonic()
        known, sight = self._record.now, self._agents.view.sight
        if known.connected_at is not None:
            self._held.phases.add("idle", now - known.connected_at)
        else:
            self._held.phases.add("connect", self._begun - self._began)
        self._agents.view.wake()  # to see soon which build it is
        await self._record.change(
            BuildState.RUNNING,
            begun_at=now,
            connected_at=known.connected_at or now,
            session=sight.session if sight is not None else "",
        )

    async def _measure(self) -> None:
        if time.monotonic() - self._measured > MEASURE_EVERY:
            self._measured = time.monotonic()
            usage = await self._agents.engine.stats(self._node.name)
            self._peak = max(self._peak, usage.memory, usage.memory_peak or 0)

    async def _finish(self) -> None:
        """Its one build is over. One that failed may have done so because the agent died: its end then tells more."""
        begun_at = self._record.now.begun_at or time.time()
        end = await self._job.outcome()
        if end.reason is Reason.JOB:
            self._failed_looks += 1
            container = await self._agents.engine.container(self._node.name)
            if self._failed_looks < SURE_OF_FAILURE or container is None or container.state != "running":
                return
        await self._node.remove()
        self._held.phases.add("run", time.time() - begun_at)
        self._end = end

    # ---------------------------------------------------------------------------------------------- after its end

    def judge(self, status: ExitStatus, *, engine_lost: bool) -> Outcome:
        """As we ended it; or, since an agent never ends by itself, as a death."""
        if self._end is not None:
            return self._end
        if self._held.stop.asked():
            return outcomes.aborted(self._held.stop.reason or Reason.CANCELLED)
        limit = self._limits.memory
        seen = Death(status=status, engine_lost=engine_lost, memory=limit, peak=self._peak, words=self._last_words())
        return death(seen, began=self._record.now.begun_at is not None)

    async def conclude(self, outcome: Outcome, *, ran: bool) -> tuple[Outcome, tuple[Artifact, ...]]:  # noqa: ARG002
        """Tell the controller of a failure where its users look, and let no build hang on a dead agent."""
        try:
            async for attempt in stamina.retry_context(
                on=(ControllerUnavailable, ControllerRefused),
                attempts=None,
                timeout=CONCLUDING,
                wait_initial=0.5,
                wait_max=5.0,
            ):
                with attempt:
                    outcome = await self._tell(outcome)
        except ControllerError as error:
            self._held.log.note(f"the controller could not be told: {error}")
        return outcome, ()

    async def _tell(self, outcome: Outcome) -> Outcome:
        job = self._record.now.job
        if outcome.result in {Result.FAILURE, Result.NOT_BUILT} and outcome.reason is not Reason.JOB:
            run = await self._agents.controller.run(job.url) if job is not None else None
            if run is None or run.building or run.result in {None, Result.FAILURE, Result.ABORTED}:
                await self._show(outcome)
                return outcome
            outcome = job_ended(job, run)  # it was over already
        await self._node.remove()
        return outcome

    async def _show(self, outcome: Outcome) -> None:
        known = self._record.now
        if known.begun_at is None:
            await self._node.ensure()  # it may have failed before there was one
        await self._node.tell(outcome.message or outcome.result)
        if known.job is not None:
            await self._agents.controller.stop_run(known.job.url)

    # --------------------------------------------------------------------------------------------------- helpers

    @property
    def _url(self) -> str:
        return self._settings.agent_url or self._agents.controller.url

    @property
    def _limits(self) -> policy.Limits:
        return policy.limits(self._request, self._agents.settings.builds, self._agents.place)

    @cached_property
    def _job(self) -> JobWatch:
        return JobWatch(
            held=self._held,
            record=self._record,
            node=self._node,
            controller=self._agents.controller,
            workspace=self._workspace,
            metrics=self._agents.metrics,
            timeout=self._limits.timeout,
            grace=self._agents.settings.engine.stop_grace,
        )

    def _last_words(self) -> str:
        return self._held.log.tail(_LAST_WORDS).decode("utf-8", "replace").strip() or "none"
