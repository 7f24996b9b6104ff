"""What agents are equipped with: Java and the controller's own agent program, kept up to date with the controller.

A fresh program is tried out once in a training (see `training`), from which every agent after it starts faster.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from agent.errors import AgentError
from agent.threads import in_thread
from agent.toolkit import agents as kits
from agent.toolkit import jar_cache

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.agents.training import Training
    from agent.agents.view import View

_log = structlog.get_logger()
PERIOD = 0.5  # seconds between looks at the version
# Seconds until a training that failed is tried again, doubled each time: agents start without it, only more slowly.
FIRST_PAUSE = 60.0
LONGEST_PAUSE = 3600.0
_OPEN = 0o1777  # as /tmp: agents of any user may write, and none may remove what is another's


@dataclass(frozen=True, kw_only=True, slots=True)
class Kit:
    """An agent toolkit: its path below the data folder, and whether it has an archive of the program's classes."""

    path: str
    archive: bool


class Outfit:
    """The current kit. `base` is every container's toolkit, `java` the JDK or JRE that agents' Java is made from."""

    def __init__(self, *, data_dir: Path, base: str, java: Path, view: View, training: Training) -> None:
        self._data_dir = data_dir
        self._base = base
        self._java = java
        self._view = view
        self._training = training
        self._seeds = data_dir / "jars"
        self._caches = data_dir / "caches"
        self._version = ""
        self._kit: Kit | None = None
        self._there = asyncio.Event()
        self._train_at = 0.0  # by the monotonic clock
        self._pause = FIRST_PAUSE
        self._seeds.mkdir(mode=0o700, exist_ok=True)
        self._caches.mkdir(mode=0o711, exist_ok=True)

    @property
    def now(self) -> Kit | None:
        """The kit, if there is one yet."""
        return self._kit

    async def kit(self) -> Kit:
        """The kit of the controller's version; waits for the first one."""
        await self._there.wait()
        if self._kit is None:
            raise AgentError("there is no agent toolkit")
        return self._kit

    async def turn(self) -> None:
        """Follow the controller's version. Raises ControllerError, AgentError; it is then tried again."""
        await asyncio.sleep(PERIOD)
        info = self._view.info
        if info is None or self._view.sight is None:
            return
        if info.version != self._version:
            await self._equip(info.version)
        if self._kit is not None and not self._kit.archive and time.monotonic() > self._train_at:
            await self._try_training(self._kit)

    def furnish(self, workspace: Path, caches: Iterable[str]) -> None:
        """Give a new agent's workspace the jars that every agent fetches, and make the caches it mounts."""
        jar_cache.sow(self._seeds, workspace)
        for name in caches:
            folder = self._caches / name
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                folder.chmod(_OPEN)

    async def _equip(self, version: str) -> None:
        jar = await self._view.controller.agent_jar()
        path = await in_thread(kits.install_agent, self._data_dir, self._base, self._java, jar)
        archive = (self._data_dir / path / kits.ARCHIVE).exists()
        self._kit, self._version = Kit(path=path, archive=archive), version
        self._train_at, self._pause = 0.0, FIRST_PAUSE
        self._there.set()

    async def _try_training(self, kit: Kit) -> None:
        try:
            await self._train(kit)
        except AgentError as error:
            _log.warning("agents start more slowly: a training failed", again_in=self._pause, error=str(error))
            self._train_at = time.monotonic() + self._pause
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)

    async def _train(self, kit: Kit) -> None:
        try:
            workspace = await self._training.run(kit.path)
            await in_thread(jar_cache.harvest, workspace.joinpath(*jar_cache.CACHE), self._seeds)
            await in_thread(kits.adopt_archive, self._data_dir, kit.path, workspace / kits.ARCHIVE)
        finally:
            await self._training.clean()
        self._kit = Kit(path=kit.path, archive=True)
