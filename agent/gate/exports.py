"""The files of a container as the engine exports them: read within the container's root, whatever lies there.

Its other ways to them go by paths of the host, where a link may have taken a folder's place; an export is read by a
process that has the container's root for its own (moby/moby, daemon/export.go and pkg/chrootarchive).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from agent.errors import EngineError
from agent.files import tar
from agent.files.tar_headers import Headers
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from agent.gate.upstream import Upstream

    Take = Callable[[Iterator[tar.Member]], bool]


@asynccontextmanager
async def opened(upstream: Upstream, container: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """The pieces of the tar, while the block lasts. Raises EngineError."""
    async with upstream.request("GET", f"/containers/{container}/export") as reply:
        if reply.status != HTTPStatus.OK:
            (await reply.whole()).done()
        yield reply.pieces()


async def look(pieces: AsyncIterator[bytes], take: Take) -> None:
    """Give `take` the members, some at a time and in a thread, until it says that it has seen enough.

    They come in the order of names, folder by folder (Go, filepath.WalkDir). Raises EngineError if they break off: who
    took those that came for all would tell the rest as gone. Raises InvalidArchive.
    """
    headers = Headers()
    async for piece in pieces:
        if not headers.passes(len(piece)) and await in_thread(_taken, headers, piece, take):
            return
    if not headers.ended:
        raise EngineError("the engine's export of the container broke off, as when files move meanwhile; try again")


def _taken(headers: Headers, piece: bytes, take: Take) -> bool:
    return take(tar.member(*header, bytes) for header in headers.of(piece))  # nobody reads their data
