"""One Unix socket for each build, in its container at /run/sibling/api.sock: the API under the build's own identity.

It is there while the build's container is, so there is no token that could leak and no port that others could call.
The folder that holds it is a part of the data volume; a start after a kill opens the sockets of what still runs anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agent.errors import AgentError
from agent.files import tree
from agent.threads import in_thread

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "sockets"
NAME = "api.sock"
DOCKER_NAME = "docker.sock"  # beside it, of a build that may use Docker (`agent.docker_access`)
TARGET = "/run/sibling"  # of the folder, in a container

Close = Callable[[], Awaitable[None]]


class SocketServer(Protocol):
    """Serves the API at a path."""

    async def serve(self, path: Path, build_id: str) -> Close:
        """Listen there for that build's container; what it returns ends it. Raises OSError."""


@dataclass(frozen=True, kw_only=True)
class BuildSockets:
    """The sockets of one service's builds, below one folder."""

    folder: Path
    server: SocketServer | None
    _open: dict[str, Close] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The folder itself; containers enter only their own part of it."""
        self.folder.mkdir(mode=0o711, exist_ok=True)

    async def open(self, build_id: str) -> None:
        """Have the build's socket. Does nothing if it is open. Raises AgentError."""
        if build_id in self._open:
            return
        folder = tree.child(self.folder, build_id)
        try:
            folder.mkdir(mode=0o711, exist_ok=True)
            if self.server is not None:
                self._open[build_id] = await self.server.serve(folder / NAME, build_id)
        except OSError as error:
            raise AgentError(f"the socket of build {build_id} could not be opened: {error.strerror}") from error

    async def close(self, build_id: str) -> None:
        """End it, and all that is asked through it. Does nothing if it is not open."""
        if (close := self._open.pop(build_id, None)) is not None:
            await close()

    async def remove(self, build_id: str) -> None:
        """Close it, and remove its folder. Raises AgentError if the disk refuses."""
        await self.close(build_id)
        try:
            await in_thread(tree.remove, tree.child(self.folder, build_id))
        except OSError as error:
            raise AgentError(f"the socket of build {build_id} could not be removed: {error.strerror}") from error

    def ids(self) -> list[str]:
        """The builds that have a folder here."""
        return [path.name for path in self.folder.iterdir()]

    async def close_all(self) -> None:
        """End all of them, and leave their folders to the containers that still run."""
        for build_id in tuple(self._open):
            await self.close(build_id)
