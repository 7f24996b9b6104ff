"""The start of a daemon in a container, and connections to it by its socket, which lies in a folder of ours."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import time
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from agent.docker_access import daemon_body
from agent.errors import AgentError, EngineError, EngineUnavailable
from agent.files import tree
from agent.gate.upstream import Upstream, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from agent.gate.upstream import Connection

_PAUSE = 0.05  # seconds
_ENDING = 10.0  # seconds, in which one that does not answer may be about to end
_LAST_WORDS = 1000  # bytes of its log that are shown if it does not start


class DaemonGone(EngineUnavailable):
    """A daemon that was started runs no more. All who connect are told so, until one calls `forget`."""

    def __init__(self, message: str, forget: Callable[[], object]) -> None:
        super().__init__(message)
        self.forget = forget


async def start(upstream: Upstream, container: str, folder: Path, build_id: str, patience: float) -> None:
    """Start the daemon in a container that was created, and have it empty of what ran there.

    If that fails, the container is gone. Raises EngineError, also if it does not answer in `patience` seconds.
    """
    try:
        (await upstream.ask("POST", f"/containers/{container}/start")).done()
        daemon = Upstream(partial(connected, folder, build_id))
        await _answering(upstream, daemon, container, build_id, patience)
        await _begin_anew(daemon)
    except BaseException:
        await upstream.ask("DELETE", f"/containers/{container}", {"force": "1", "v": "1"})
        raise


async def reached(
    upstream: Upstream, container: str, folder: Path, build_id: str, forget: Callable[[], object]
) -> Connection:
    """A connection to a daemon that was started. Raises DaemonGone, EngineUnavailable, AgentError.

    After a `forget`, another one is started for who connects then.
    """
    began = time.monotonic()
    while True:
        try:
            return await connected(folder, build_id)
        except EngineUnavailable as error:
            if not await _runs(upstream, container):
                raise DaemonGone(str(error), forget) from error
            if time.monotonic() - began > _ENDING:
                raise
        await asyncio.sleep(_PAUSE)


async def connected(folder: Path, build_id: str) -> Connection:
    """A connection to the daemon whose socket is in the folder. Raises EngineUnavailable, AgentError."""
    try:
        with _socket(folder) as path:
            return await connect(path)
    except (OSError, EngineUnavailable) as error:
        raise EngineUnavailable(f"the Docker daemon of build {build_id} is gone: {error}") from error


async def on_disk(upstream: Upstream, container: str, volumes: Mapping[str, int]) -> int:
    """Bytes that it has in the volume of its data and in its own files; 0 if it is gone.

    The engine tells no size of folders that are too deep for it: then it is more than any limit.
    """
    there = await upstream.ask("GET", f"/containers/{container}/json", {"size": "1"})
    if not there.ok:
        return 0
    facts = there.json()
    data = [each["Name"] for each in facts["Mounts"] if each["Destination"] == daemon_body.DATA]
    sizes = [facts.get("SizeRw") or 0, *(volumes.get(each, 0) for each in data)]
    return sum(sizes) if min(sizes) >= 0 else sys.maxsize


async def _answering(upstream: Upstream, daemon: Upstream, container: str, build_id: str, patience: float) -> None:
    began = time.monotonic()
    while True:
        with suppress(EngineUnavailable):
            if (await daemon.ask("GET", "/_ping")).ok:
                return
        late = time.monotonic() - began > patience
        if late or not await _runs(upstream, container):
            why = f"does not answer after {patience:g} s" if late else "ended at once"
            words = await _last_words(upstream, container)
            raise EngineError(f"the Docker daemon of build {build_id} {why}; its last words: {words}")
        await asyncio.sleep(_PAUSE)


async def _runs(upstream: Upstream, container: str) -> bool:
    there = await upstream.ask("GET", f"/containers/{container}/json")
    return there.status != HTTPStatus.NOT_FOUND and bool(there.done().json()["State"]["Running"])


async def _last_words(upstream: Upstream, container: str) -> str:
    query = {"stdout": "1", "stderr": "1", "tail": "20"}
    answer = await upstream.ask("GET", f"/containers/{container}/logs", query)
    return answer.content[-_LAST_WORDS:].decode("utf-8", "replace").strip() or "none"


async def _begin_anew(daemon: Upstream) -> None:
    """Remove what an earlier build left there, but images and build cache."""
    for container in (await daemon.ask("GET", "/containers/json", {"all": "1"})).done().json():
        await daemon.ask("DELETE", f"/containers/{container['Id']}", {"force": "1", "v": "1"})
    await daemon.ask("POST", "/volumes/prune", {"filters": '{"all": ["true"]}'})
    await daemon.ask("POST", "/networks/prune")


@contextmanager
def _socket(folder: Path) -> Iterator[str]:
    """A path of the socket that leads nowhere else. Raises OSError, AgentError.

    Whoever has the daemon is root in its container, and can put there what he likes: a link to the host's own socket.
    So can what an earlier build left on the volume, such as a plugin, before we have asked anything.
    """
    with tree.opened(folder) as opened:
        socket = os.open(daemon_body.NAME, os.O_PATH | os.O_NOFOLLOW, dir_fd=opened)
    try:
        if not stat.S_ISSOCK(os.fstat(socket).st_mode):
            raise AgentError(f"the socket of the Docker daemon in {folder} is none any more")
        yield f"/proc/self/fd/{socket}"
    finally:
        os.close(socket)
