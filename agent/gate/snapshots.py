"""A container's files as an image, and what it changed, without the engine's own way to either.

For `commit`, `diff` and sizes the engine walks through a container's folders by their paths on the host. Who can
change them meanwhile puts a link in the way, and gets at any folder of the host: that is the container, and whatever
else of the build it gave a descriptor of a folder, also while it is paused or has ended. So all is made of exports.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agent.errors import TooLarge
from agent.files import tar
from agent.gate import exports, keeping, packed
from agent.gate.create import is_ours
from agent.gate.shown import LABEL_IMAGE
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from agent.gate.gate import Gate
    from agent.gate.upstream import Answer

MODIFIED, ADDED, DELETED = range(3)  # Docker API, ContainerChanges
# In each container, for others to be mounted there (moby/moby, daemon/initlayer).
_MADE_BY_ENGINE = {
    *("/.dockerenv", "/dev", "/dev/console", "/dev/pts", "/dev/shm", "/etc/hostname", "/etc/hosts", "/etc/mtab"),  # noqa: S108 - in containers
    *("/etc/resolv.conf", "/proc", "/sys"),
}
_MOST_FILES = 500_000  # in a tree that is compared: each takes some 200 bytes of memory beside its path
_MOST_PATHS = 64 * 1024**2  # characters of these together
_OF_ITS_PLACE = ("MacAddress", "NetworkDisabled")
_TOLD_IN_HISTORY = ("Entrypoint", "Cmd")


async def commit(
    gate: Gate, container: dict[str, Any], query: Sequence[tuple[str, str]], anchor: str, most: int
) -> Answer:
    """An image by the name `anchor`, of the files and settings; of all files, as one layer. Raises TooLarge.

    A container of these files that nobody else knows stands in for it: the engine commits that with the settings, to
    which it adds those of the stand-in's own, labels above all. So that one has none.
    """
    with keeping.anchored(gate) as files:
        async with _paused(gate, container), exports.opened(gate.upstream, container["Id"]) as pieces:
            (await keeping.bring_in(gate, files, packed.unmistaken(pieces), most)).done()
        image = (await gate.upstream.ask("GET", f"/images/{files}/json")).done().json()["Id"]
        config = settings(container["Config"])
        command = {name: config[name] for name in _TOLD_IN_HISTORY if name in config}
        async with _stand_in(gate, {**command, "Image": image}) as stand_in:
            whole = [*query, ("container", stand_in), ("repo", anchor), ("pause", "0")]
            answer = await gate.upstream.ask("POST", "/commit", whole, config)
        await gate.upstream.ask("DELETE", f"/images/{files}", {"noprune": "1"})
    return answer


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """A container's Config as its image is to have it: nothing of the gate's is in it."""
    labels = config.get("Labels") or {}
    return {
        **{name: value for name, value in config.items() if name not in _OF_ITS_PLACE},
        "Image": labels.get(LABEL_IMAGE, ""),
        "Labels": {name: value for name, value in labels.items() if not is_ours(name)},
    }


async def changes(gate: Gate, container: dict[str, Any]) -> list[dict[str, Any]]:
    """What it has that its image has not, and the other way round, by path (Docker API, ContainerChanges)."""
    async with gate.diffing:
        async with as_image(gate, container["Image"]) as stand_in:
            before = await _files(gate, stand_in)
        after = await _files(gate, container["Id"])
        return await in_thread(lambda: [{"Path": path, "Kind": kind} for path, kind in differences(before, after)])


def differences(before: dict[str, int], after: dict[str, int]) -> Iterator[tuple[str, int]]:
    """The paths in which two trees differ, and the folders of these; of a folder that is gone, itself alone."""
    found = dict.fromkeys(after.keys() - before.keys(), ADDED)
    found |= {path: MODIFIED for path in after.keys() & before.keys() if after[path] != before[path]}
    gone = before.keys() - after.keys()
    found |= {path: DELETED for path in gone if _folder(path) not in gone}
    for path in [*found]:
        while (path := _folder(path)) and path not in found:
            found[path] = MODIFIED
    yield from sorted(found.items())


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


@asynccontextmanager
async def _paused(gate: Gate, container: dict[str, Any]) -> AsyncIterator[None]:
    """A container that runs stands still in the block, for its files to be of one moment."""
    path = f"/containers/{container['Id']}"
    paused = container["State"]["Running"] and (await gate.upstream.ask("POST", f"{path}/pause")).ok
    try:
        yield
    finally:
        if paused:
            await gate.upstream.ask("POST", f"{path}/unpause")


@asynccontextmanager
async def as_image(gate: Gate, image: str) -> AsyncIterator[str]:
    """The id of a container that has an image's files, and no volumes."""
    config = (await gate.upstream.ask("GET", f"/images/{image}/json")).done().json()["Config"] or {}
    in_memory = dict.fromkeys(config.get("Volumes") or (), "")  # and so no volume is made
    async with _stand_in(gate, {"Image": image, "Cmd": ["none"], "HostConfig": {"Tmpfs": in_memory}}) as stand_in:
        yield stand_in


@asynccontextmanager
async def _stand_in(gate: Gate, config: dict[str, Any]) -> AsyncIterator[str]:
    """The id of a container that never runs, and that the build does not know.

    After a kill it is found by its name, as a builder is: a label of it would be in what is made of it.
    """
    name = f"{gate.prefix}{secrets.token_hex(16)}"
    body = {**config, "HostConfig": {**config.get("HostConfig", {}), "NetworkMode": "none"}}
    with gate.connections.unbroken():
        with gate.intending(name, "builder"):
            made = (await gate.upstream.ask("POST", "/containers/create", {"name": name}, body)).done().json()["Id"]
            gate.journal.add("builder", name)
        try:
            yield made
        finally:
            if (await gate.upstream.ask("DELETE", f"/containers/{name}", {"force": "1", "v": "1"})).ok:
                gate.journal.remove("builder", name)  # else it is tried again at the end


async def _files(gate: Gate, container: str) -> dict[str, int]:
    """What stands for all that is told of each of its files, by path. Raises TooLarge, EngineError."""
    found: dict[str, int] = {}
    length = 0

    def take(members: Iterator[tar.Member]) -> bool:
        nonlocal length
        by_path = {f"/{member.name.strip('/')}": hash(_told(member)) for member in members}
        found.update({path: told for path, told in by_path.items() if path not in _MADE_BY_ENGINE})
        length += sum(map(len, by_path))
        if len(found) > _MOST_FILES or length > _MOST_PATHS:
            raise TooLarge(
                f"the container has over {_MOST_FILES} files, or {_MOST_PATHS} characters of paths; "
                "that is too much to compare with its image's"
            )
        return False

    async with exports.opened(gate.upstream, container) as pieces:
        await exports.look(keeping.capped(pieces, gate.policy.limits.image_bytes), take)
    return found


def _told(member: tar.Member) -> tuple[Any, ...]:
    """A folder's time is that of what is in it, which is told itself."""
    if member.kind is tar.Kind.FOLDER:
        return member.kind, member.mode
    return member.kind, member.mode, member.mtime, member.size, member.target
