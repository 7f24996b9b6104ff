"""One agent's node on the controller, from its making to its removal; every verb may be repeated."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from agent.agents import remote
from agent.errors import NodeExists

if TYPE_CHECKING:
    from agent.builds import Build
    from agent.controller import Controller
    from agent.requests import AgentRequest

ONE_BUILD = "Sibling: this agent takes one build and no more."
NOT_NEEDED = "Sibling: this agent is not needed any more."


class AgentNode:
    """The node of one agent's build. All verbs raise ControllerError."""

    def __init__(self, controller: Controller, build: Build, request: AgentRequest, service_id: str) -> None:
        self._controller = controller
        self._request = request
        self._describe = partial(remote.description, build, request, service_id)
        self.name = remote.node_name(build.id)
        self.closed = False  # whether we know that it takes no more builds

    async def ensure(self) -> None:
        """Make it, unless an earlier attempt has: of this name there is none but ours."""
        with suppress(NodeExists):
            await self._controller.create_node(
                self.name,
                description=self._describe(),
                labels=self._request.node_labels,
                remote_dir=remote.REMOTE_DIR,
            )

    async def secret(self) -> str:
        """What its agent proves itself with."""
        return await self._controller.node_secret(self.name)

    async def close(self, reason: str = ONE_BUILD) -> None:
        """Let it take no more builds; one that runs goes on."""
        await self._controller.set_offline(self.name, reason)
        self.closed = True

    async def tell(self, failure: str) -> None:
        """Say on its page why there is no agent, or none any more."""
        await self.close(f"Sibling: {failure}")
        await self._controller.describe(self.name, self._describe(failure))

    async def reopen(self) -> None:
        """Let its own pipeline come back to it after the controller's restart."""
        await self._controller.set_online(self.name)
        self.closed = False

    async def remove(self) -> None:
        """Remove it."""
        await self._controller.delete_node(self.name)
