"""From the controller's waiting items to agents: look, count, ask for what is missing, let go of what is not wanted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from agent.agents import demand
from agent.agents.failures import Failures
from agent.builds import JENKINS, BuildState
from agent.errors import ControllerError, Unavailable
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from agent.agents.catalog import Catalog
    from agent.agents.demand import Need, Plan
    from agent.agents.failures import Failure
    from agent.agents.view import Sight, View
    from agent.build_store import BuildStore
    from agent.builds import Build
    from agent.metrics import Metrics
    from agent.requests import AgentRequest
    from agent.scheduler import Scheduler
    from agent.settings import Settings

_log = structlog.get_logger()
# What a look does not show may be there in the next one; an agent in the making is not given up for that.
SURELY_UNWANTED = 5.0  # seconds


class Provisioner:
    """Asks the store for agents, as callers ask for builds; the scheduler and the runner do the rest."""

    def __init__(
        self,
        *,
        settings: Settings,
        view: View,
        catalog: Catalog,
        store: BuildStore,
        scheduler: Callable[[], Scheduler],
        metrics: Metrics,
        service_id: str,
        withdraw: Callable[[str], Awaitable[object]],
        registered: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._view = view
        self._catalog = catalog
        self._store = store
        self._scheduler = scheduler
        self._metrics = metrics
        self._service_id = service_id
        self._withdraw = withdraw
        self._registered = registered
        self._failures = Failures()
        self._unwanted_since: dict[str, float] = {}
        self.draining = False

    @property
    def unwanted(self) -> Mapping[str, float]:
        """The agents that no build has come to, and that nobody waits for; since when, by the monotonic clock."""
        return self._unwanted_since

    def finished(self, build: Build) -> None:
        """A build has ended; if it was an agent that could not be had, the next one like it has to wait."""
        self._failures.finished(build, time.monotonic())
        self._view.wake()  # there may be room for another one now

    async def turn(self) -> None:
        """Look, act, and wait for the next look. Raises StoreUnavailable; what the controller refuses is in View."""
        try:
            sight = await self._view.look()
        except ControllerError:
            await self._view.pause()
            return
        await self._act(sight)
        await self._view.pause()

    async def _act(self, sight: Sight) -> None:
        agents = await in_thread(self._store.agents)
        coming_back = demand.coming_back(agents, sight.session)
        waiting = demand.needs(sight.items, sight.computers, self._catalog, coming_back)
        spare = demand.spares(agents, sight.computers, self._service_id)
        plan = demand.plan([] if self.draining else waiting, spare, agents, self._catalog, idle=not self.draining)
        await self._make(plan, agents)
        await self._let_go(plan, agents)
        await self._give_up(waiting)

    async def _make(self, plan: Plan, agents: Sequence[Build]) -> None:
        if not self._registered():
            return  # without the lease on it, another service would take our nodes for a dead one's
        now = time.monotonic()
        wanted = [request for request in plan.make if not self._failures.must_wait(demand.key_of(request), now)]
        for request in wanted[: self._room(agents)]:
            await self._submit(request)

    def _room(self, agents: Sequence[Build]) -> int:
        """How many may be asked for: what runs at once, and one to keep its place in the queue when nothing is free.

        Not more, since another service of the same labels may have room for them.
        """
        free = self._settings.queue.slots - len(self._scheduler().running)
        queued = sum(1 for build in agents if build.state is BuildState.QUEUED)
        return max(0, max(free, 1) - queued)

    async def _submit(self, request: AgentRequest) -> None:
        try:
            build, _ = await in_thread(self._store.submit, request, JENKINS, max_queued=self._settings.queue.max_queued)
        except Unavailable as error:
            _log.warning("no agent can be asked for", labels=request.node_labels, error=str(error))
            return
        _log.info("asked for an agent", build=build.id, labels=request.node_labels, image=request.image)
        self._scheduler().wake()

    async def _let_go(self, plan: Plan, agents: Sequence[Build]) -> None:
        """Of those in the making; the ones that are connected see to it themselves (`AgentWork`), but for a drain."""
        now = time.monotonic()
        self._unwanted_since = {build_id: self._unwanted_since.get(build_id, now) for build_id in plan.unwanted}
        for build in agents:
            since = self._unwanted_since.get(build.id, now)
            surely = build.state is not BuildState.CONNECTED and now - since > SURELY_UNWANTED
            if build.id in plan.unwanted and (surely or self.draining):
                await self._withdraw(build.id)

    async def _give_up(self, waiting: Sequence[Need]) -> None:
        """Cancel the items that wait for what cannot be had, rather than let them wait for ever."""
        for key, failure in self._failures.hopeless(self._settings.jenkins.attempts).items():
            for need in waiting:
                if demand.key_of(need.request) == key:
                    await self._cancel_item(need, failure)
            self._failures.forget(key)

    async def _cancel_item(self, need: Need, failure: Failure) -> None:
        try:
            await self._view.controller.cancel_item(need.item.id)
        except ControllerError as error:
            self._view.fault(error)
            _log.warning("cannot cancel a queue item whose agent cannot be had", item=need.item.id, error=str(error))
            return
        self._metrics.cancelled_items.inc()
        _log.warning(
            "cancelled a queue item: its agent cannot be had",
            item=need.item.id,
            job=need.item.url or need.item.name,
            labels=need.request.node_labels,
            failures=failure.count,
            reason=failure.message,
        )
