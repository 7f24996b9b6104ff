"""Restart policies of containers: the gate starts again what ended, since the engine would without a look at it.

Times and rules are the engine's own (moby/moby, restartmanager).
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, EngineUnavailable
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.gate.bodies import RestartPolicyBody
    from agent.gate.journal import Journal
    from agent.gate.upstream import Upstream

_FIRST_PAUSE, _LONGEST_PAUSE, _ENGINE_PAUSE = 0.1, 60.0, 1.0  # seconds
_PATIENCE = 60.0  # seconds
_RAN_WELL = 10.0  # seconds, after which the next pause is a first one again
_EXITED = re.compile(r"Exited \((\d+)\)(.*)")


@dataclass(frozen=True, slots=True)
class Restarting:
    """What a container's policy says, how often it was started again, and whether it is to be when it ends."""

    name: str
    most: int  # 0: as often as it fails
    count: int = 0
    is_kept: bool = False

    def again(self, code: int) -> bool:
        """Whether it is to be started again after it ended so."""
        may = self.name != "on-failure" or (code != 0 and (self.most == 0 or self.count < self.most))
        return self.is_kept and may

    def shown(self, found: dict[str, Any]) -> dict[str, Any]:
        """A container as GET /containers/NAME/json has it. While it waits, it counts as running there."""
        state, host = found["State"], found["HostConfig"]
        if state["Status"] == "exited" and self.again(state["ExitCode"]):
            state = {**state, "Status": "restarting", "Running": True, "Restarting": True}
        policy = {"Name": self.name, "MaximumRetryCount": self.most}
        return {**found, "State": state, "RestartCount": self.count, "HostConfig": {**host, "RestartPolicy": policy}}

    def listed(self, found: dict[str, Any]) -> dict[str, Any]:
        """The same of an entry of GET /containers/json."""
        ended = _EXITED.fullmatch(found["Status"])
        if found["State"] != "exited" or ended is None or not self.again(int(ended[1])):
            return found
        return {**found, "State": "restarting", "Status": f"Restarting ({ended[1]}){ended[2]}"}


@dataclass(slots=True)
class _Keeper:
    """Starts one container again and again."""

    task: asyncio.Task[None]
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)


class Restarts:
    """Those of one gate. `start` has the look and starts a container; it raises what these raise."""

    def __init__(
        self,
        upstream: Upstream,
        journal: Journal,
        start: Callable[[str], Awaitable[None]],
        refused: Callable[[Refused], None],
    ) -> None:
        """`refused` is told why a container is not started again."""
        self._upstream = upstream
        self._journal = journal
        self._start = start
        self._refused = refused
        self._keepers: dict[str, _Keeper] = {}

    def of(self, container: str) -> Restarting | None:
        """What is known of it; None if the engine's own `no` is its policy."""
        text = self._journal.all("restart").get(container)
        return None if text is None else Restarting(*json.loads(text))

    @property
    def keep_some(self) -> bool:
        """Whether there are containers that are started again when they end."""
        return any(map(self.keeps, self._keepers))

    def keeps(self, container: str) -> bool:
        """Whether this one is."""
        return container in self._keepers and not self._keepers[container].task.done()

    def shown(self, found: dict[str, Any]) -> dict[str, Any]:
        """A container as the build is shown it: see `Restarting.shown`."""
        known = self.of(found["Id"])
        return found if known is None else known.shown(found)

    def listed(self, found: dict[str, Any]) -> dict[str, Any]:
        """The same of an entry of a list."""
        known = self.of(found["Id"])
        return found if known is None else known.listed(found)

    def ask(self, container: str, policy: RestartPolicyBody | None) -> None:
        """Have the policy that was asked for, from its next start on."""
        if policy is None or policy.is_none:
            self._journal.remove("restart", container)
        else:
            known = self.of(container) or Restarting("", 0)
            self._write(container, replace(known, name=policy.Name, most=policy.MaximumRetryCount))

    async def change(self, container: str, policy: RestartPolicyBody, *, is_running: bool) -> None:
        """Have another policy than it began with."""
        if policy.Name == "no":
            await self.let_go(container)
        self.ask(container, policy)
        if is_running:
            self.keep(container)

    def keep(self, container: str) -> None:
        """It was started by the build: start it again when it ends, if its policy says so."""
        known = self.of(container)
        if known is not None and not self.keeps(container):
            self._write(container, replace(known, count=0, is_kept=True))
            self._follow(container)

    def resume(self) -> None:
        """Go on with those that an earlier gate kept."""
        for container, text in self._journal.all("restart").items():
            if Restarting(*json.loads(text)).is_kept and not self.keeps(container):
                self._follow(container)

    async def let_go(self, container: str) -> bool:
        """Start it no more; one start may be under way, and ends first. False if it was not to be started."""
        known = self.of(container)
        if known is None or not known.is_kept:
            return False
        self._write(container, replace(known, is_kept=False))
        await self._end(container)
        return True

    async def forget(self, container: str) -> None:
        """It is gone."""
        await self.let_go(container)
        self._journal.remove("restart", container)

    async def end(self) -> None:
        """Start none any more; another gate of the build may go on with them."""
        tasks = [each.task for each in self._keepers.values()]
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):  # a start may take for ever
                await asyncio.gather(*map(self._end, tuple(self._keepers)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _write(self, container: str, known: Restarting) -> None:
        self._journal.add("restart", container, json.dumps([known.name, known.most, known.count, known.is_kept]))

    def _follow(self, container: str) -> None:
        keeper = self._keepers[container] = _Keeper(asyncio.create_task(self._keep(container)))

        def ended(_: object) -> None:
            if self._keepers.get(container) is keeper:  # else it was started anew meanwhile
                del self._keepers[container]

        keeper.task.add_done_callback(ended)

    async def _end(self, container: str) -> None:
        if (keeper := self._keepers.get(container)) is not None:
            async with keeper.starting:
                keeper.task.cancel()
            await asyncio.wait({keeper.task})

    async def _keep(self, container: str) -> None:
        pause, began = 0.0, time.monotonic()
        while (code := await self._ended(container)) is not None:
            known = self.of(container)
            if known is None or not known.again(code):
                break
            is_first = pause == 0.0 or time.monotonic() - began >= _RAN_WELL
            pause = _FIRST_PAUSE if is_first else min(2 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(pause)
            began = time.monotonic()
            async with self._keepers[container].starting:
                if not await self._started(container):
                    break
        if (known := self.of(container)) is not None:
            self._write(container, replace(known, is_kept=False))

    async def _started(self, container: str) -> bool:
        """Whether it was started, or may be once the engine answers; if not, the engine says why at the container."""
        try:
            await self._start(container)
        except Refused as refusal:
            self._refused(refusal)
            return False
        except EngineUnavailable:
            return True
        except AgentError:
            return False
        if (known := self.of(container)) is not None:
            self._write(container, replace(known, count=known.count + 1))
        return True

    async def _ended(self, container: str) -> int | None:
        """Its exit code, once it does not run; None if it is gone."""
        while True:
            try:
                answer = await self._upstream.ask("POST", f"/containers/{container}/wait")
            except EngineUnavailable:
                await asyncio.sleep(_ENGINE_PAUSE)
            else:
                return int(answer.json()["StatusCode"]) if answer.status == HTTPStatus.OK else None
