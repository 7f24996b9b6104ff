"""A gate for one build of the service: what its policy is, and what it needs of the data volume."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agent import build_sockets, grants, toolkit
from agent.docker_access import rights
from agent.docker_access.daemons import Sidecar
from agent.errors import Rejected
from agent.gate.builder import Builder
from agent.gate.gate import Gate
from agent.gate.journal import Journal
from agent.gate.policy import GatePolicy, Limits, Refused, Workspace
from agent.gate.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from agent.docker_access.daemons import Daemons
    from agent.files.workspace import Workspaces
    from agent.policy import Place
    from agent.settings import Settings
    from agent.tokens import Token


@dataclass(frozen=True, kw_only=True)
class Gates:
    """Makes them; `folder` is that of their journals."""

    folder: Path
    upstream: Upstream
    workspaces: Workspaces
    settings: Settings
    place: Place
    daemons: Daemons

    def __post_init__(self) -> None:
        """The folder, for us alone."""
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def ids(self) -> list[str]:
        """The builds with a gate of which something may be left. Blocks."""
        return [file.stem for file in self.folder.glob("*.journal")]

    def gate(
        self,
        build_id: str,
        *,
        member: str | None = None,
        connecting: Callable[[], Awaitable[Token]] | None = None,
        refused: Callable[[Refused, bool], None] = lambda *_: None,
        note: Callable[[str], None] = lambda _: None,
    ) -> Gate:
        """The build's gate, not open yet; `member` is the build's container, `note` writes to its log. Blocks.

        Raises OSError, ValueError if its journal cannot be read.
        """
        sockets = f"{self.place.volume_dir}/{build_sockets.FOLDER}"
        return Gate(
            build=build_id,
            policy=self._policy(),
            upstream=self.upstream,
            journal=Journal(self.folder / f"{build_id}.journal"),
            socket={"Type": "bind", "Source": f"{sockets}/{build_id}/{build_sockets.DOCKER_NAME}"},
            folder=self.workspaces.path(build_id),
            member=member,
            refused=refused,
            admit=connecting and partial(self._admit, connecting, note),
        )

    async def _admit(self, connecting: Callable[[], Awaitable[Token]], note: Callable[[str], None], gate: Gate) -> None:
        """Complete it: what its job may push, what it builds images on, and its workspace as a volume of its own.

        A part of the data volume would be no border: the engine follows links from one part of a volume to another.
        """
        try:
            caller = await connecting()
        except Rejected as error:
            raise Refused(error.rule, str(error)) from error
        push = [pattern for pattern, _ in grants.push_patterns(caller, self.settings.grants)]
        gate.policy = gate.policy.model_copy(update={"push": tuple(push)})
        gate.builder = self._builder(gate, caller, note)
        volume = await gate.bind_workspace(f"{self.place.volume_dir}/workspaces/{gate.build}")
        gate.workspace = Workspace(path=toolkit.WORKSPACE, volume=volume)

    def _builder(self, gate: Gate, caller: Token, note: Callable[[str], None]) -> Builder | None:
        """One of the trust domain's; none without an image for it."""
        if self.settings.daemon.image is None or gate.member is None:
            return None
        sidecar = Sidecar(build_id=gate.build, container=gate.member, domain=rights.domain(caller), builder=True)
        return Builder(Upstream(partial(self.daemons.connect, sidecar, note)))

    def _policy(self) -> GatePolicy:
        docker = self.settings.docker
        allowed = self.settings.builds.allowed_images if docker.images is None else docker.images
        return GatePolicy(
            pull=tuple(allowed),
            subnets=tuple(docker.subnets),
            limits=Limits(
                memory=min(docker.memory, self.place.memory),
                cpus=min(docker.cpus, self.place.cpus),
                **docker.model_dump(exclude={"images", "subnets", "memory", "cpus"}),
            ),
        )
