"""Letting a fresh agent program connect once, for what every agent after it starts faster with.

Its classes are archived as it ends, and the jars that the controller gave it are kept. No build can come near it: its
node is closed before it connects, so that what it leaves is as trustworthy as the controller.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent import toolkit
from agent.agents import ownership, remote, resident
from agent.agents.ownership import Owner
from agent.engine import Mount
from agent.errors import EngineError
from agent.threads import in_thread
from agent.toolkit.inside import ARCHIVE

if TYPE_CHECKING:
    from pathlib import Path

    from agent.agents.resident import Residents
    from agent.controller import Controller
    from agent.engine import OutputStream, Stream
    from agent.files.workspace import Workspaces
    from agent.settings.jenkins import JenkinsSettings

CONNECTED = b"Connected"  # what the program writes then (hudson.remoting.Launcher$CuiListener)
WARMING = 3.0  # seconds for what the controller runs on every node that connects
DUMPING = 30.0  # seconds for the program to end and to write its archive
FOLDER = "trainings"  # below the data folder
_ID = "training"  # in place of a build's, for its workspace


@dataclass(kw_only=True)
class Training:
    """Runs one training at a time; `node` is its node's name meanwhile."""

    residents: Residents
    controller: Controller
    settings: JenkinsSettings
    workspaces: Workspaces  # apart from builds'
    node: str | None = None

    async def run(self, kit: str) -> Path:
        """Train with this kit; returns the workspace with what it left. Raises ControllerError, EngineError."""
        node = self.node = f"sibling-training-{secrets.token_hex(16)}"
        service = self.residents.place.service_id
        description = ownership.marked("A trial of the agent program.", Owner(role=ownership.TRAINING, service=service))
        await self.controller.create_node(node, description=description, labels=[node], remote_dir=remote.REMOTE_DIR)
        try:
            await self.controller.set_offline(node, "Sibling: this node is for no builds.")
            secret = await self.controller.node_secret(node)
            return await self._connect_once(kit, node, secret)
        finally:
            await self.controller.delete_node(node)
            self.node = None

    async def clean(self) -> None:
        """Remove its container and its workspace."""
        await self.residents.remove(ownership.TRAINING)
        await in_thread(self.workspaces.remove, _ID)

    async def _connect_once(self, kit: str, node: str, secret: str) -> Path:
        workspace = await in_thread(self.workspaces.make, _ID)
        uid, gid = map(int, resident.USER.split(":"))
        await in_thread(self.workspaces.give_to, _ID, uid, gid)
        url = self.settings.agent_url or self.controller.url
        task = toolkit.agent_task(
            url=url,
            name=node,
            secret=secret,
            heap=None,
            archive=False,
            archive_to=f"{toolkit.WORKSPACE}/{ARCHIVE}",
        )
        place = self.residents.place
        mount = Mount(volume=place.volume, subpath=f"{FOLDER}/{_ID}", target=toolkit.WORKSPACE)
        container, stream = await self.residents.start(ownership.TRAINING, kit, task, (mount,))
        await _until_written(stream, CONNECTED, self.settings.connect_timeout)
        await asyncio.sleep(WARMING)
        await self.residents.engine.stop(container, DUMPING)
        return workspace


async def _until_written(stream: OutputStream, words: bytes, seconds: float) -> None:
    """Read until the words came. Raises EngineError with what came instead."""
    seen = bytearray()

    def write(_: Stream, data: bytes | memoryview) -> None:
        seen.extend(data)
        if words in seen:
            stream.close()

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stream.pump(write)
    stream.close()
    if words not in seen:
        said = seen.decode("utf-8", "replace").strip() or "nothing"
        raise EngineError(f"the agent program did not connect in its trial within {seconds:g} s; it said: {said}")
