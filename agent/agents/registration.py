"""The service's own node in the controller's list: whether it is online is whether the service is well.

Its agent runs in a small container that holds nothing, and ends when the service shows no sign of life any more. The
description says what admins want to know at a glance, and carries the service's lease on its other nodes.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from agent import toolkit
from agent.agents import ownership, remote
from agent.agents.ownership import Owner
from agent.engine import Mount
from agent.errors import AgentError, ControllerError, NodeExists

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from agent.agents.outfit import Outfit
    from agent.agents.resident import Residents
    from agent.agents.view import View
    from agent.controller import Computer
    from agent.settings.jenkins import JenkinsSettings

_log = structlog.get_logger()
BEAT = 2.0  # seconds between signs of life
STALE = 15  # seconds without one after which the agent ends
CLOSING = 5.0  # seconds that the end of the service waits for the controller
_FOLDER = "registration"  # below the data folder; its agent sees it, and nothing else of it
_SEEN_AT = "/run/sibling"
_OURS = "Sibling: "  # what our reasons begin with: an admin's own mark on the node is left alone
_GUARD = f"""\
"$@" &
agent=$!
while kill -0 $agent 2>/dev/null; do
    now=$({toolkit.TARGET}/bin/date +%s)
    seen=$({toolkit.TARGET}/bin/stat -c %Y {_SEEN_AT}/alive 2>/dev/null || echo 0)
    if [ $((now - seen)) -gt {STALE} ]; then
        echo "[sibling] the service shows no sign of life; its node goes offline" >&2
        kill $agent
    fi
    {toolkit.TARGET}/bin/sleep 2
done
wait $agent
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """What the node's page says, and why the service is not well, if it is not."""

    text: str
    reason: str | None


class Registration:
    """Keeps the node, its agent and its description; one `turn` is one look at all of them."""

    def __init__(
        self,
        *,
        settings: JenkinsSettings,
        view: View,
        outfit: Outfit,
        residents: Residents,
        data_dir: Path,
        health: Callable[[], Awaitable[Health]],
    ) -> None:
        self._settings = settings
        self._view = view
        self._controller = view.controller
        self._outfit = outfit
        self._residents = residents
        self._service_id = residents.place.service_id
        self._alive = data_dir / _FOLDER / "alive"
        self._health = health
        self._container: str | None = None
        self._kit: str | None = None
        self._turned_away: set[str] = set()
        self.registered = False  # whether the controller has our node
        self.name = settings.name or f"sibling-{self._service_id[:8]}"
        self._alive.parent.mkdir(mode=0o755, exist_ok=True)

    async def beat(self) -> None:
        """One sign of life; apart from `turn`, which a slow controller may hold up."""
        self._alive.touch()
        await asyncio.sleep(BEAT)

    async def turn(self) -> None:
        """Raises ControllerError and EngineError; the next turn tries again."""
        sight = self._view.sight
        if sight is not None:
            health = await self._health()
            computer = sight.computers.get(self.name)
            await self._keep_node(computer, health.text)
            await self._keep_agent()
            if computer is not None:
                await self._show(computer, health.reason)
                await self._turn_away(computer)
        await asyncio.sleep(BEAT)

    async def close(self) -> None:
        """Say that the service ends, and end the agent; the controller may be away, which must hold up nothing."""
        with suppress(AgentError, TimeoutError):
            async with asyncio.timeout(CLOSING):
                if self._view.sight is not None:
                    await self._controller.set_offline(self.name, f"{_OURS}the service was stopped.")
                await self._residents.remove(ownership.REGISTRATION)

    async def _keep_node(self, computer: Computer | None, text: str) -> None:
        self.registered = False
        until = int(time.time() + self._settings.lease)
        mine = Owner(role=ownership.REGISTRATION, service=self._service_id, until=until)
        if computer is None:
            label = f"sibling-{secrets.token_hex(16)}"  # that nobody can ask for
            try:
                await self._controller.create_node(
                    self.name, description=ownership.marked(text, mine), labels=[label], remote_dir=remote.REMOTE_DIR
                )
            except NodeExists:
                return  # made since that look, maybe by another service: the next one tells
            self.registered = True
            return
        owner = ownership.owner_of(computer.description)
        if owner is None or owner.service != self._service_id:
            raise ControllerError(
                f"The controller has a node {self.name} that is not this service's. Delete that, or give this service "
                "another name in jenkins.name."
            )
        old = (owner.until or 0) < until - self._settings.lease / 2
        if old or ownership.text_of(computer.description) != text:
            await self._controller.describe(self.name, ownership.marked(text, mine))
        self.registered = True

    async def _keep_agent(self) -> None:
        kit = self._outfit.now
        if kit is None:
            return
        if self._container is not None and self._kit == kit.path and await self._residents.is_running(self._container):
            return
        task = toolkit.agent_task(
            url=self._settings.agent_url or self._controller.url,
            name=self.name,
            secret=await self._controller.node_secret(self.name),
            heap=None,
            archive=kit.archive,
        )
        mount = Mount(volume=self._residents.place.volume, subpath=_FOLDER, target=_SEEN_AT, read_only=True)
        self._container, stream = await self._residents.start(
            ownership.REGISTRATION, kit.path, toolkit.wrapped(task, _GUARD), (mount,)
        )
        stream.close()  # the engine keeps its log for whoever wants it
        self._kit = kit.path

    async def _show(self, computer: Computer, reason: str | None) -> None:
        if reason is not None:
            if not computer.marked_offline or (
                computer.reason.startswith(_OURS) and computer.reason != f"{_OURS}{reason}"
            ):
                await self._controller.set_offline(self.name, f"{_OURS}{reason}")
        elif computer.marked_offline and computer.reason.startswith(_OURS):
            await self._controller.set_online(self.name)

    async def _turn_away(self, computer: Computer) -> None:
        """Whoever aims a job at this node by its name meets a shell that says so (`plain_image`), and then this."""
        for running in computer.executables:
            if running.url not in self._turned_away:
                self._turned_away.add(running.url)
                _log.warning("stopped a job on the registration node: it runs no builds", job=running.url)
            await self._controller.stop_run(running.url)
