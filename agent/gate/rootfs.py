"""What a container's root has at some paths, below whatever is mounted there.

Asked path by path, as `docker cp` does, where that shows the root itself. An export always does, but engines leave the
container's layer on the disk for good after one (moby/moby#48516; so did 26.1.5).
"""

from __future__ import annotations

import base64
import json
import posixpath
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.errors import EngineError
from agent.files import tar
from agent.gate import exports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.gate.upstream import Upstream

Path = tuple[bytes, ...]  # its parts
Looked = dict[Path, tar.Member]
Look = Callable[[Collection[Path]], Awaitable[Looked]]
_MOST_MOUNTS = 20  # of a container that is asked path by path
_STAT = "x-docker-container-path-stat"
# Go, io/fs.FileMode
_KINDS = {
    1 << 31: tar.Kind.FOLDER,
    1 << 27: tar.Kind.SYMLINK,
    1 << 26: tar.Kind.BLOCK_DEVICE,
    1 << 25: tar.Kind.FIFO,
    1 << 24: tar.Kind.OTHER,  # a socket
    1 << 19: tar.Kind.OTHER,
}


async def of(upstream: Upstream, container: str) -> Look:
    """What looks at a container: it is given paths, each with all above it, and returns those that are there."""
    facts = (await upstream.ask("GET", f"/containers/{container}/json")).done().json()
    mounts = _mounts(facts)
    asked = partial(_asked, upstream, container)
    if len(mounts) > _MOST_MOUNTS or await _is_moved(asked, mounts):
        return partial(_exported, upstream, container)

    async def look(paths: Collection[Path]) -> Looked:
        is_hidden = any(path[: len(mount)] == mount for path in paths for mount in mounts)
        return await (_exported(upstream, container, paths) if is_hidden else asked(paths))

    return look


def parts(path: bytes) -> Path:
    """Of a path, without those that mean nothing."""
    return tuple(part for part in path.split(b"/") if part not in (b"", b"."))


def _mounts(facts: dict[str, Any]) -> set[Path]:
    targets = [*(each["Destination"] for each in facts["Mounts"]), *(facts["HostConfig"].get("Tmpfs") or ())]
    return {parts(posixpath.normpath(f"/{each}").encode("utf-8", "surrogateescape")) for each in targets}


async def _is_moved(asked: Look, mounts: set[Path]) -> bool:
    """Whether a link leads one of the mounts to another place than its target."""
    paths = {mount[:depth] for mount in mounts for depth in range(1, len(mount) + 1)}
    return any(each.kind is tar.Kind.SYMLINK for each in (await asked(paths)).values())


async def _asked(upstream: Upstream, container: str, paths: Collection[Path]) -> Looked:
    """By themselves; what is below a link or a file is left out."""
    found: Looked = {}
    for path in sorted(paths):
        above = found.get(path[:-1])
        if len(path) == 1 or (above is not None and above.kind is tar.Kind.FOLDER):
            member = await _member(upstream, container, path)
            if member is not None:
                found[path] = member
    return found


async def _member(upstream: Upstream, container: str, path: Path) -> tar.Member | None:
    whole = "/" + b"/".join(path).decode("utf-8", "surrogateescape")
    if not whole.isprintable():
        raise EngineError(f"there is no look at {whole!r} of the container")
    query = {"path": whole}
    async with upstream.request("HEAD", f"/containers/{container}/archive", query) as reply:
        if reply.status == 404:
            return None
        if reply.status != 200 or _STAT not in reply.headers:
            raise _untold(whole)
        mode = json.loads(base64.b64decode(reply.headers[_STAT]))["mode"]
    kind = next((kind for bit, kind in _KINDS.items() if mode & bit), tar.Kind.FILE)
    if kind is tar.Kind.SYMLINK:  # the header tells where it leads in the end, not what it says
        return await _link(upstream, container, query)
    return tar.Member(name=whole, kind=kind, mode=0, mtime=0, size=0, target="", data=iter(()))


async def _link(upstream: Upstream, container: str, query: dict[str, str]) -> tar.Member | None:
    found: list[tar.Member] = []

    def take(members: Iterator[tar.Member]) -> bool:
        found.extend(members)
        return bool(found)

    async with upstream.request("GET", f"/containers/{container}/archive", query) as reply:
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise _untold(query["path"])
        await exports.look(reply.pieces(), take)
    return found[0] if found else None


def _untold(path: str) -> EngineError:
    return EngineError(f"the engine does not tell of {path} in the container, as where links lead in a circle")


async def _exported(upstream: Upstream, container: str, paths: Collection[Path]) -> Looked:
    last, found = max(paths), Looked()

    def take(members: Iterator[tar.Member]) -> bool:
        by_path = {parts(member.name.encode("utf-8", "surrogateescape")): member for member in members}
        found.update({path: member for path, member in by_path.items() if path in paths})
        return max(by_path, default=()) >= last

    async with exports.opened(upstream, container) as pieces:
        await exports.look(pieces, take)
    return found
