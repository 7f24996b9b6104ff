"""Containers of the service's own that run an agent without builds: the one of the registration node, and trainings.

As the runner is for builds, this is the only place that orders the engine's verbs for them. They carry no build's
label, are small, hold nothing, and run as a user without rights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent import toolkit
from agent.agents import plain_image
from agent.engine import LABEL_ROLE, LABEL_SERVICE, ContainerSpec, Mount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.engine import Engine, OutputStream
    from agent.policy import Place

USER = "10001:10001"
_MIB = 1024**2
MEMORY = 256 * _MIB
PIDS = 256
LOG_SIZE = 4 * _MIB


@dataclass(frozen=True, kw_only=True)
class Residents:
    """Starts and removes them; each has a role, and there is one of a role at a time."""

    engine: Engine
    place: Place

    async def start(
        self, role: str, kit: str, task: bytes, mounts: Sequence[Mount], *, pids: int = PIDS
    ) -> tuple[str, OutputStream]:
        """Start one in place of any before it; returns its id and its output. Raises EngineError."""
        await self.remove(role)
        await self.engine.ensure_image(plain_image.reference(), plain_image.archive())
        container = await self.engine.create(
            f"sibling-{role}-{self.place.service_id[:12]}", self._spec(role, kit, mounts, pids)
        )
        stream = await self.engine.attach(container, task)
        try:
            await self.engine.start(container)
        except BaseException:
            stream.close()
            raise
        return container, stream

    async def is_running(self, container: str) -> bool:
        """Whether it still runs."""
        found = await self.engine.container(container)
        return found is not None and found.state == "running"

    async def remove(self, role: str) -> None:
        """Remove all of the role, whoever left them."""
        for container in await self.engine.list({LABEL_SERVICE: self.place.service_id, LABEL_ROLE: role}):
            await self.engine.remove(container.id)

    def _spec(self, role: str, kit: str, mounts: Sequence[Mount], pids: int) -> ContainerSpec:
        place = self.place
        tools = Mount(volume=place.volume, subpath=kit, target=toolkit.TARGET, read_only=True)
        return ContainerSpec(
            image=plain_image.reference(),
            entrypoint=toolkit.ENTRYPOINT,
            env={"PATH": "/bin", "TINI_KILL_PROCESS_GROUP": "1"},
            labels={LABEL_SERVICE: place.service_id, LABEL_ROLE: role},
            workdir=toolkit.WORKSPACE,
            user=USER,
            network=place.agent_network or place.network,
            mounts=(tools, *mounts),
            tmpfs={"/tmp": f"rw,noexec,nosuid,nodev,mode=1777,size={16 * _MIB}"},  # noqa: S108 - the container's own
            cpus=1,
            memory=MEMORY,
            pids=pids,
            shm_size=_MIB,
            cap_add=(),
            log_size=LOG_SIZE,
            runtime=place.runtime,
        )
