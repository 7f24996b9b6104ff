"""What builds have on the engine's disk, to which the engine itself sets no limit: looked at now and then.

For a look the engine walks through the files of these containers, and of all volumes, also of others. So the longer one
takes, the longer is the pause after it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.errors import EngineError, EngineUnavailable
from agent.gate.policy import Refused
from agent.gate.queries import of_build

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.gate.gate import Gate
    from agent.gate.upstream import Upstream

_PAUSE, _PATIENCE = 5.0, 10.0  # seconds
_MOST_OF_THE_TIME = 1 / 20


async def of_volumes(upstream: Upstream) -> dict[str, int]:
    """Bytes that are in all volumes there are, by name (Docker API, SystemDataUsage). Raises EngineError."""
    found = (await upstream.ask("GET", "/system/df", {"type": "volume"})).done().json()
    return {each["Name"]: (each.get("UsageData") or {}).get("Size", 0) for each in found["Volumes"] or ()}


async def of_containers(upstream: Upstream, filters: Mapping[str, str]) -> dict[str, int]:
    """Bytes that containers wrote to their own files, by id (Docker API, ContainerList). Raises EngineError."""
    found = (await upstream.ask("GET", "/containers/json", {"all": "1", "size": "1", **filters})).done().json()
    return {each["Id"]: each.get("SizeRw") or 0 for each in found}


async def turn(look: Callable[[], Awaitable[None]]) -> None:
    """Take a look, and the pause after it."""
    began = time.monotonic()
    await look()
    await asyncio.sleep(max(_PAUSE, (time.monotonic() - began) * (1 / _MOST_OF_THE_TIME - 1)))


async def judge(gate: Gate, volumes: Mapping[str, int]) -> None:
    """End the containers of a build that has too much, which can then make nothing more before it removed some.

    `volumes` are the sizes of all there are. Raises EngineUnavailable.
    """
    limit, was_full = gate.policy.limits.disk, gate.is_full
    sizes = await _sizes(gate, volumes)
    # The engine gives up on folders that are too deep for it, and on what goes away as it looks; the latter not twice.
    unknown = {name for name, size in sizes.items() if size < 0}
    used = limit + 1 if unknown & gate.unsized else sum(max(size, 0) for size in sizes.values())
    gate.unsized, gate.is_full = unknown, used > limit
    if not gate.is_full:
        return
    if not was_full:
        gate.tell(
            Refused("limits.disk", f"the build has {used} bytes on the disk, and may have {limit}; its containers end")
        )
    with suppress(TimeoutError):  # the engine may have one locked; the others end, and this one after the next look
        async with asyncio.timeout(_PATIENCE):
            await asyncio.gather(*(_end(gate, each) for each in gate.journal.all("container")))


async def _sizes(gate: Gate, volumes: Mapping[str, int]) -> dict[str, int]:
    """What the build has, by name; -1 where that cannot be told."""
    own = gate.journal.all("container")
    try:
        containers = await of_containers(gate.upstream, of_build(gate.build, {}))
    except EngineUnavailable:
        raise
    except EngineError:  # there is too much to tell of them: that is this build's own doing
        containers = dict.fromkeys(own, -1)
    return {each: containers.get(each, 0) for each in own} | {
        each: volumes.get(each, 0) for each in gate.journal.all("volume")
    }


async def _end(gate: Gate, container: str) -> None:
    await gate.restarts.let_go(container)
    await gate.upstream.ask("POST", f"/containers/{container}/kill")  # refused for those that do not run


def see_room(gate: Gate) -> None:
    """Raise Refused if the build had too much at the last look."""
    if gate.is_full:
        raise Refused(
            "limits.disk", f"the build has over {gate.policy.limits.disk} bytes on the disk; remove some of it first"
        )
