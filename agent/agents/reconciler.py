"""Nodes against builds: what a crash left on the controller goes, ours at once, another service's after its lease."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from agent.agents import ownership
from agent.builds import Build, BuildState, Reason, Result
from agent.errors import NotFound
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from agent.agents.ownership import Owner
    from agent.agents.view import View
    from agent.build_store import BuildStore
    from agent.controller import Computer

_log = structlog.get_logger()
PERIOD = 5.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Reconciler:
    """Removes nodes that nobody needs. Containers without a node end by themselves (`AgentWork`), or by the reaper."""

    view: View
    store: BuildStore
    service_id: str
    own_name: str  # of the registration node
    keep_failed: float  # seconds
    training: Callable[[], str | None]  # the node of the training that is under way

    async def turn(self) -> None:
        """Raises ControllerError, StoreUnavailable; the next turn tries again."""
        await asyncio.sleep(PERIOD)
        sight = self.view.sight
        if sight is None:
            return
        builds = await in_thread(self._builds, sight.computers)
        for name in stale(sight.computers.values(), builds, self):
            _log.info("removed a node that nobody needs", node=name)
            await self.view.controller.delete_node(name)

    def _builds(self, computers: Mapping[str, Computer]) -> dict[str, Build]:
        """Our agents' builds, by id, as far as they are still known."""
        builds = {}
        for computer in computers.values():
            owner = ownership.owner_of(computer.description)
            if owner is not None and owner.service == self.service_id and owner.build is not None:
                try:
                    builds[owner.build] = self.store.get(owner.build)
                except NotFound:
                    continue
        return builds


def stale(computers: Iterable[Computer], builds: Mapping[str, Build], we: Reconciler) -> Iterator[str]:
    """The names of nodes that nobody needs any more. Pure."""
    owned = [(computer, owner) for computer in computers if (owner := ownership.owner_of(computer.description))]
    leases = {owner.service: owner.until or 0 for _, owner in owned if owner.role == ownership.REGISTRATION}
    shown = _newest_failures(owned, builds, time.time() - we.keep_failed)
    for computer, owner in owned:
        if owner.service != we.service_id:
            # One that is online has an agent, and so a service that will see to it.
            if owner.role != ownership.REGISTRATION and computer.offline and leases.get(owner.service, 0) < time.time():
                yield computer.name
        elif owner.role == ownership.REGISTRATION:
            if computer.name != we.own_name:
                yield computer.name
        elif owner.role == ownership.TRAINING:
            if computer.name != we.training():
                yield computer.name
        elif owner.build is not None:
            build = builds.get(owner.build)
            if build is None or (build.state is BuildState.FINISHED and computer.name not in shown):
                yield computer.name


def _newest_failures(
    owned: Iterable[tuple[Computer, Owner]], builds: Mapping[str, Build], since: float
) -> frozenset[str]:
    """The nodes that stay a while to show why their agent failed: of each label the newest."""
    newest: dict[frozenset[str], tuple[float, str]] = {}
    for computer, owner in owned:
        build = builds.get(owner.build or "")
        if build is None or not _shows(build, since):
            continue
        labels = computer.labels - {computer.name}
        newest[labels] = max(newest.get(labels, (0.0, "")), (build.finished_at or 0.0, computer.name))
    return frozenset(name for _, name in newest.values())


def _shows(build: Build, since: float) -> bool:
    outcome = build.outcome
    return (
        outcome is not None
        and outcome.result in {Result.FAILURE, Result.NOT_BUILT}
        and outcome.reason is not Reason.JOB
        and (build.finished_at or 0.0) > since
    )
