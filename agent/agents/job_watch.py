"""The one build that came to an agent, from its first sight to its end; a restart of the controller is no end.

Serves `agent_work`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent import outcomes
from agent.agents.last_words import job_ended
from agent.agents.missed_job import find_missed_job
from agent.builds import Job, Outcome, Reason, Result

if TYPE_CHECKING:
    from pathlib import Path

    from agent.agents.node import AgentNode
    from agent.agents.record import Record
    from agent.agents.view import Sight
    from agent.controller import Computer, Controller
    from agent.metrics import Metrics
    from agent.work import Held

RESUMING = 600.0  # seconds for a pipeline to come back to its node after the controller's restart


class JobWatch:
    """`timeout` is what the job may take on the agent, `grace` what it may take to stop, both in seconds."""

    def __init__(
        self,
        *,
        held: Held,
        record: Record,
        node: AgentNode,
        controller: Controller,
        workspace: Path,
        metrics: Metrics,
        timeout: float,
        grace: float,
    ) -> None:
        self._held = held
        self._record = record
        self._node = node
        self._controller = controller
        self._workspace = workspace
        self._metrics = metrics
        self._timeout = timeout
        self._grace = grace
        self._stopped_at: float | None = None  # by the monotonic clock, as the next
        self._resuming_since: float | None = None

    async def is_over(self, sight: Sight, computer: Computer) -> bool:
        """Look at it; tells whether the agent is not needed for it any more. Raises ControllerError, and as Record."""
        if computer.executables:
            await self._note(sight, computer)
            return await self._must_end()
        return computer.idle and not await self._comes_back(sight)

    async def outcome(self, while_running: str | None = None) -> Outcome:
        """How it ended; `while_running` is what is wrong if it has not. Raises ControllerError."""
        stop = self._held.stop
        if stop.reason is not None and stop.reason is not Reason.UNUSED:
            return outcomes.aborted(stop.reason, timeout=self._timeout)
        job = self._record.now.job or await self._find()
        run = await self._controller.run(job.url) if job is not None else None
        if run is not None and run.building and while_running is not None:
            return Outcome(result=Result.FAILURE, reason=Reason.CONTROLLER, message=while_running)
        return job_ended(job, run)

    async def _find(self) -> Job | None:
        job = await find_missed_job(self._controller, self._node.name, self._workspace)
        if job is not None:
            self._held.log.note(f"{job.name} ran here: {job.url}")
            await self._record.change(job=job)
        return job

    async def _note(self, sight: Sight, computer: Computer) -> None:
        self._resuming_since = None
        if not computer.marked_offline:
            self._node.closed = False  # opened for a pipeline that has come back by now, or by somebody
        running, known = computer.executables[0], self._record.now
        job = Job(url=running.url, number=running.number, name=running.name)
        if known.job is None:
            self._held.log.note(f"{job.name} runs here: {job.url}")
        elif known.job.url != job.url:
            self._metrics.second_builds.inc()
            self._held.log.note(f"a second build, {job.name}, came before the node was closed: {job.url}")
        elif known.session == sight.session:
            return
        await self._record.change(job=job, session=sight.session)

    async def _must_end(self) -> bool:
        """Stop it at its timeout, or when asked; tells whether that did not help."""
        stop, known = self._held.stop, self._record.now
        if time.time() > (known.begun_at or 0.0) + self._timeout:
            stop.ask(Reason.TIMEOUT)
        if stop.reason in {None, Reason.UNUSED} or known.job is None:
            return False
        if self._stopped_at is None:
            self._held.log.note(f"stopping {known.job.name}: {stop.reason}")
            await self._controller.stop_run(known.job.url)
            self._stopped_at = time.monotonic()
        return time.monotonic() - self._stopped_at > self._grace

    async def _comes_back(self, sight: Sight) -> bool:
        """Whether a pipeline will take its node again after a restart; our mark must not keep it from there."""
        known = self._record.now
        if known.job is None or known.session == sight.session:
            return False
        run = await self._controller.run(known.job.url)
        if run is None or not run.building:
            return False
        now = time.monotonic()
        if self._resuming_since is None:
            self._resuming_since = now
            self._held.log.note(f"the controller was restarted; {known.job.name} may come back here")
        if now - self._resuming_since > RESUMING:
            return False
        await self._node.reopen()
        return True
