"""Whether the engine can read a container's users before it starts a command there."""

from __future__ import annotations

import base64
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from agent.gate.policy import Refused

if TYPE_CHECKING:
    from agent.gate.gate import Gate

_FILES = ("/etc/passwd", "/etc/group")
# Go's os.FileMode, as the engine has it in X-Docker-Container-Path-Stat.
_LINK = 1 << 27
_OPENS_NEVER = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19  # a device, pipe, socket, character device, other


async def see_it_can_start(gate: Gate, container: str) -> None:
    """Raise Refused if it cannot; of files that are a shared image's, nothing is to be seen."""
    if container in gate.untouched:
        gate.untouched.remove(container)
    else:
        await see_readable(gate, container)


async def see_readable(gate: Gate, container: str) -> None:
    """Raise Refused if it cannot: the engine opens these files without a deadline, and waits for a pipe for ever.

    It holds the container locked meanwhile, so that nobody can remove it.
    """
    for file in _FILES:
        stat = await _stat(gate, container, file)
        if stat and stat["mode"] & _LINK:
            stat = await _stat(gate, container, stat["linkTarget"])
        if stat and stat["mode"] & (_OPENS_NEVER | _LINK):
            raise Refused("field", f"{file} of the container is no file; the engine would not start anything there")


async def _stat(gate: Gate, container: str, path: str) -> dict[str, Any] | None:
    """What is there; links in the path are followed within the container, but not the last one (Docker API)."""
    async with gate.upstream.request("HEAD", f"/containers/{container}/archive", {"path": path}) as reply:
        if reply.status != HTTPStatus.OK:
            return None
        found: dict[str, Any] = json.loads(base64.b64decode(reply.headers["x-docker-container-path-stat"]))
        return found
