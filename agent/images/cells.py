"""Where RUN steps get their limits: below the control group of a container of ours that does nothing.

BuildKit sets none, but puts its containers where `--cgroup-parent` says, and a control group's limits hold for all that
is below it. An image build leases such a container while it runs and gives it the build's limits, which takes a call
of the engine; starting one for each build would take as long as a small build. With the systemd driver only slices
can be parents: there `images.cgroup_parent` names one that the admin has made, with limits for all builds together.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from agent.engine import LABEL_ROLE, LABEL_SERVICE
from agent.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.agents.resident import Residents
    from agent.engine import Engine
    from agent.policy import Limits
    from agent.requests import Request

_ROLE = "image-cell-"
_TASK = b"set -- /opt/sibling/bin/busybox sleep 2147483647\n_sibling_workdir=/\n"


@dataclass(kw_only=True, slots=True)
class _Cell:
    role: str
    container: str
    cpus: float = 0
    memory: int = 0


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Leases them. `driver` is the engine's cgroup driver, `parent` the admin's own parent, `toolkit` what they have.

    `pids` are the most processes of one build's steps.
    """

    engine: Engine
    residents: Residents
    service_id: str
    driver: str
    parent: str | None
    toolkit: str
    pids: int
    _free: list[_Cell] = field(default_factory=list)
    _roles: set[str] = field(default_factory=set)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def check(self, request: Request) -> None:
        """Raise Rejected if it asks for limits that nobody would keep."""
        if not self._own() and (request.cpus is not None or request.memory is not None):
            raise Rejected(
                "images.cgroup_parent",
                "an image build cannot have limits of its own here: the engine's cgroup driver is systemd, where only "
                "a slice of the admin's limits RUN steps, all together; leave out cpus and memory",
            )

    @asynccontextmanager
    async def leased(self, limits: Limits) -> AsyncIterator[str | None]:
        """The parent of a build's control groups, with its limits, until the block ends. Raises EngineError."""
        if not self._own():
            yield self.parent
            return
        cell = await self._take()
        if (cell.cpus, cell.memory) != (limits.cpus, limits.memory):
            # One that cannot be limited, as memory of the build before is left in it, is not used again.
            await self.engine.limit(cell.container, cpus=limits.cpus, memory=limits.memory)
            cell.cpus, cell.memory = limits.cpus, limits.memory
        try:
            yield f"/docker/{cell.container}"
        finally:
            self._free.append(cell)

    async def close(self) -> None:
        """Remove them; no build is under way any more. Raises EngineError."""
        if self._roles:
            await self._remove_left()

    async def _remove_left(self) -> None:
        """Those of an earlier life of the service, too, which may have been killed."""
        for container in await self.engine.list({LABEL_SERVICE: self.service_id}):
            if container.labels.get(LABEL_ROLE, "").startswith(_ROLE):
                await self.engine.remove(container.id)

    def _own(self) -> bool:
        return self.parent is None and self.driver == "cgroupfs"

    async def _take(self) -> _Cell:
        async with self._turn:
            while self._free:
                cell = self._free.pop()
                if await self.residents.is_running(cell.container):
                    return cell
                self._roles.discard(cell.role)
            if not self._roles:
                await self._remove_left()
            role = next(name for number in count() if (name := f"{_ROLE}{number}") not in self._roles)
            container, stream = await self.residents.start(role, self.toolkit, _TASK, (), pids=self.pids)
            stream.close()
            self._roles.add(role)
            return _Cell(role=role, container=container)
