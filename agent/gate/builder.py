"""What a build's images are built on: a daemon that is not the shared one, and whose images are the build's alone.

Before it is asked to build, it has the images that the build knows, under the names that it knows them by, so that a
Dockerfile can begin with them. What it built meanwhile is taken over before the build's next look at an image: checked
as any archive that the build loads, since who can make the builder do things may have made it lie.

If the daemon ends, what it built since the last look is lost, which is told; the next request that may build has a new
one.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agent import references
from agent.docker_access.daemon_start import DaemonGone
from agent.errors import EngineError, EngineUnavailable, InvalidRequest
from agent.gate import keeping
from agent.gate.own import full_name, new_tag
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.gate.gate import Gate
    from agent.gate.upstream import Upstream

_NAMELESS = "<none>@"
_MOST_LOCAL = 512 * 1024**2  # bytes
_ID = re.compile(r"sha256:[0-9a-f]{64}")


class Builder:
    """The builder of one gate; `daemon` is not asked before the build builds something."""

    def __init__(self, daemon: Upstream) -> None:
        self._daemon = daemon
        self._building = 0  # requests under way that may end with an image
        self._lock = asyncio.Lock()
        self._forget()

    def _forget(self) -> None:
        """Know of nothing there, as of a daemon that is new."""
        # By their ids there: ids on the engine, or None for what is not the build's.
        self._images: dict[str, str | None] = {}
        self._tags: dict[str, str] = {}  # by name: ids there, as they were last seen
        self._local: set[str] = set()  # names of images that are given though the build did not ask for them
        self._begun = False
        self._stale = False  # some request that may have ended with an image did since the last look

    @asynccontextmanager
    async def building(self, gate: Gate) -> AsyncIterator[Upstream]:
        """The daemon, for a request that may build. Raises EngineError."""
        async with self._lock:
            try:
                await self._prepare(gate)
            except DaemonGone as gone:
                self._lose(gate, gone)
                await self._prepare(gate)
        self._building += 1
        try:
            yield self._daemon
        finally:
            self._building -= 1
            self._stale = True

    async def bring(self, gate: Gate) -> None:
        """Take over what was built since the last time. Raises EngineError."""
        async with self._lock:
            if self._begun and (self._building or self._stale):
                try:
                    await self._bring(gate)
                except DaemonGone as gone:
                    self._lose(gate, gone)

    async def _prepare(self, gate: Gate) -> None:
        if not self._begun:
            await self._begin(gate)
        await self._bring(gate)
        await self._give(gate)

    def _lose(self, gate: Gate, gone: DaemonGone) -> None:
        """Let the next request that may build have a new daemon."""
        self._forget()
        gone.forget()
        gate.tell(Refused("build", "the builder is gone, with what it built since the last look at an image"))

    async def _bring(self, gate: Gate) -> None:
        self._stale = False  # before the look: what is built during it is for the next one
        try:
            await self._take_over(gate)
        except BaseException as error:
            self._stale = True
            if isinstance(error, EngineUnavailable):
                await self._daemon.ask("GET", "/_ping")  # raises DaemonGone if that is why
            raise

    async def _take_over(self, gate: Gate) -> None:
        found = await self._listed()
        for each in found:
            image = each["Id"]
            if image not in self._images:
                self._images[image] = await _taken(gate, self._daemon, image)
            if (there := self._images[image]) is not None:
                for name in _tags([each]):
                    if self._tags.get(name) != image:
                        await _named(gate, name, there)  # at once: without a name it is one to prune
        self._tags = _tags(found)

    async def _begin(self, gate: Gate) -> None:
        """Begin with those images that the build has; others are of builds before. The cache of steps is no image."""
        self._local = await _without_registry(gate)
        kept = {*(await _known(gate, self._local)).values(), *gate.journal.all("image")}
        for image in [each["Id"] for each in await self._listed()]:
            if image in kept:
                self._images[image] = image
            else:
                await self._drop(image)
        self._tags = _tags(await self._listed())
        self._begun = True

    async def _give(self, gate: Gate) -> None:
        """Let the images there be those that the build has, and the names those that it knows them by."""
        known = await _known(gate, self._local)
        kept = {*known.values(), *gate.journal.all("image")}
        for image in [each for each, there in self._images.items() if there not in kept]:
            await self._drop(image)
        for name in self._tags.keys() - known.keys():
            await self._daemon.ask("DELETE", f"/images/{name}")
            del self._tags[name]
        for name, image in known.items():
            if self._images.get(self._tags.get(name, "")) != image:
                self._tags[name] = await self._name(gate, name, image)

    async def _drop(self, image: str) -> None:
        if (await self._daemon.ask("DELETE", f"/images/{image}", {"force": "1"})).status in {200, 404}:
            self._images.pop(image, None)
        else:  # another one was made from it, by the builder before BuildKit; it can go after that
            self._images[image] = None

    async def _name(self, gate: Gate, name: str, image: str) -> str:
        """Have an image of the engine's there, by the name; returns its id there."""
        theirs = next((each for each, there in self._images.items() if there == image), None)
        target = {"repo": references.parse(name).name, "tag": references.parse(name).tag or ""}
        if theirs is None or not (await self._daemon.ask("POST", f"/images/{theirs}/tag", target)).ok:
            theirs = await _given(gate, self._daemon, image)
            self._images[theirs] = image
            (await self._daemon.ask("POST", f"/images/{theirs}/tag", target)).done()
        return theirs

    async def _listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._daemon.ask("GET", "/images/json")).done().json()
        return found


def _tags(images: list[dict[str, Any]]) -> dict[str, str]:
    """The full names there are, and ids."""
    named = [(full_name(name), each["Id"]) for each in images for name in each["RepoTags"] or ()]
    # Without `<none>:<none>`, and those that nobody can call an image by: BuildKit gives them as well.
    return {name: image for name, image in named if name is not None}


async def _without_registry(gate: Gate) -> set[str]:
    """Names of images that policy covers and no registry has: the smallest, as all could be too much to copy."""
    names: set[str] = set()
    left = _MOST_LOCAL
    found = (await gate.upstream.ask("GET", "/images/json")).done().json()
    for image in sorted(found, key=lambda each: each["Size"]):
        allowed = [tag for tag in gate.own.shared_names(image) if not _is_of_registry(tag, image)]
        if allowed:
            left -= image["Size"]
            if left < 0:
                break
            names.update(str(references.parse(tag)) for tag in allowed)
    return names


def _is_of_registry(name: str, image: dict[str, Any]) -> bool:
    """Whether a registry is known to have the image by the name, or another of the same repository."""
    repository = references.parse(name).name
    digests = [each for each in image["RepoDigests"] or () if not each.startswith(_NAMELESS)]
    return any(references.parse(each).name == repository for each in digests)


async def _known(gate: Gate, local: set[str]) -> dict[str, str]:
    """The images that a Dockerfile of the build may begin with, besides those that the builder pulls, by name: ids.

    The build's own go before those that are there for all: what policy names one by one, what is `local`, and what the
    build used and no registry has.
    """
    images = (await gate.upstream.ask("GET", "/images/json")).done().json()
    digests = [(name, each) for each in images for name in each["RepoDigests"] or () if gate.own.allows(name)]
    named = [(name, each) for each in images for name in gate.own.shared_names(each)]
    there = {str(references.parse(name)): image for name, image in (*named, *digests)}
    listed = set(gate.policy.by_name())
    wanted = there.keys() & (gate.own.used | listed | local)
    known = {name: there[name]["Id"] for name in wanted if name in listed or not _is_of_registry(name, there[name])}
    return {**known, **gate.journal.all("tag")}


async def _given(gate: Gate, daemon: Upstream, image: str) -> str:
    """Load an image of the engine's there; returns its id there. Raises EngineError."""
    kind = {"Content-Type": "application/x-tar"}
    async with (
        gate.upstream.request("GET", "/images/get", {"names": image}) as saved,
        daemon.request("POST", "/images/load", {"quiet": "1"}, stream=saved.pieces(), headers=kind) as reply,
    ):
        said = (await reply.whole()).done().content.decode("utf-8", "replace")
    if (loaded := _ID.search(said)) is None:
        raise EngineError(f"the builder did not take image {image}: {said[-500:]}")
    return loaded[0]


async def _taken(gate: Gate, daemon: Upstream, image: str) -> str | None:
    """Make an image that was built there the build's own; returns its id, or None if it is refused, which is told."""
    try:
        async with (
            daemon.request("GET", "/images/get", {"names": image}) as saved,
            keeping.received(gate, saved.pieces()) as archive,
        ):
            return (await keeping.load(gate, archive))[0]
    except InvalidRequest as error:
        gate.tell(error if isinstance(error, Refused) else Refused("build", f"an image that was built: {error}"))
        return None


async def _named(gate: Gate, name: str, image: str) -> None:
    try:
        tag = new_tag(name)
        await keeping.have(gate, image)
        keeping.name(gate, tag, image)
    except InvalidRequest as error:
        gate.tell(error if isinstance(error, Refused) else Refused("image-name", str(error)))
