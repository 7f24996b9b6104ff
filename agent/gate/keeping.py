"""Images of a build, as the engine keeps them: by private names, in the journal, within the build's limits."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, asynccontextmanager, contextmanager
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from agent import references
from agent.errors import InvalidRequest, TooLarge
from agent.gate import archives, disk, strict_json
from agent.gate.exchange import CHUNK
from agent.gate.policy import Refused
from agent.gate.removal import keep_image
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from agent.gate.gate import Gate
    from agent.gate.upstream import Answer


_MOST_TOLD = 8 * 1024**2  # bytes of labels of a build's images: the engine tells them in each list of images, to all


@contextmanager
def anchored(gate: Gate) -> Iterator[str]:
    """A new private name for an image that is made and journaled in the block; see `Gate.making`."""
    with gate.intending(f"{references.PRIVATE}/gate-{gate.build}/{secrets.token_hex(8)}:latest", "image") as anchor:
        yield anchor


async def have(gate: Gate, image: str) -> None:
    """Have an image as the build's that is on the engine anyway, and that the build may use. Raises EngineError."""
    if not gate.journal.has("image", image):
        with anchored(gate) as anchor:
            (await gate.upstream.ask("POST", f"/images/{image}/tag", {"repo": anchor})).done()
            await keep_image(gate.upstream, gate.journal, image, anchor)


def name(gate: Gate, tag: str, image: str) -> None:
    """Give a name to an image of the build's. Raises Refused if it has given too many."""
    most = gate.policy.limits.tags
    if not gate.journal.has("tag", tag) and gate.journal.count("tag") >= most:
        raise Refused("limits.tags", f"the build has given {most} names to images, and may give no more")
    gate.journal.add("tag", tag, image)


@asynccontextmanager
async def room(gate: Gate) -> AsyncIterator[int]:
    """How many bytes more the images of a build may have, which are made one after the other. Raises Refused."""
    limits = gate.policy.limits
    disk.see_room(gate)
    async with gate.images:
        if gate.journal.count("image") >= limits.tags:
            raise Refused("limits.tags", f"the build has {limits.tags} images, and may have no more")
        sizes = [await gate.upstream.ask("GET", f"/images/{image}/json") for image in gate.journal.all("image")]
        there = [each.json() for each in sizes if each.ok]
        if sum(strict_json.told((each.get("Config") or {}).get("Labels")) for each in there) > _MOST_TOLD:
            raise Refused("labels", f"the labels of the build's images are over {_MOST_TOLD} bytes; remove some images")
        left = limits.image_bytes - sum(each["Size"] for each in there)
        if left <= 0:
            raise Refused(
                "limits.image_bytes", f"the build's images have {limits.image_bytes} bytes, and may have no more"
            )
        yield left


async def capped(body: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The same; raises TooLarge at more bytes."""
    count = 0
    async for piece in body:
        count += len(piece)
        if count > most:
            raise TooLarge(f"the image is over {most} bytes, the most that images of the build may still have")
        yield piece


@asynccontextmanager
async def received(gate: Gate, pieces: AsyncIterator[bytes]) -> AsyncIterator[archives.Archive]:
    """An archive of images that comes in pieces, whole and checked. Raises InvalidRequest, Refused, TooLarge."""
    with _scratch(gate) as sent, _scratch(gate) as unpacked, _counted(gate) as count:
        async for piece in pieces:
            count(len(piece))
            await in_thread(sent.write, piece)
        # Only now, since what comes may be what `docker save` waits to give until others are done.
        async with room(gate) as left:
            yield await in_thread(archives.Archive, sent, unpacked, left)


@contextmanager
def _counted(gate: Gate) -> Iterator[Callable[[int], None]]:
    """Counts bytes of archives that are here for now; raises TooLarge if all at once are more than images may have."""
    own, most = 0, gate.policy.limits.image_bytes

    def count(more: int) -> None:
        nonlocal own
        own += more
        gate.scratch += more
        if gate.scratch > most:
            raise TooLarge(f"the archives that come at once are over {most} bytes, the most that images may have")

    try:
        yield count
    finally:
        gate.scratch -= own


async def bring_in(gate: Gate, image: str, files: AsyncIterator[bytes], most: int, *query: tuple[str, str]) -> Answer:
    """Make an image of one layer by that name, of a tar of up to `most` bytes. Raises TooLarge."""
    whole = [("fromSrc", "-"), ("repo", image), *query]
    kind = {"Content-Type": "application/x-tar"}
    stream = capped(files, most)
    async with gate.upstream.request("POST", "/images/create", whole, stream=stream, headers=kind) as reply:
        return await reply.whole()


async def load(gate: Gate, archive: archives.Archive) -> list[str]:
    """Make all of its images the build's own; returns their ids. Raises InvalidRequest, EngineError."""
    with _scratch(gate) as rebuilt, ExitStack() as stack:
        anchors = [stack.enter_context(anchored(gate)) for _ in archive.tags]
        await in_thread(archive.write, anchors, rebuilt)
        answer = await _load(gate, rebuilt)
        images = [await _take(gate, anchor) for anchor in anchors]
    loaded = [each for each in images if each is not None]
    if len(loaded) < len(images):
        raise InvalidRequest(f"the engine did not load all of it: {answer[-500:].decode('utf-8', 'replace')}")
    return loaded


async def _load(gate: Gate, archive: IO[bytes]) -> bytes:
    async def pieces() -> AsyncIterator[bytes]:
        await in_thread(archive.seek, 0)
        while piece := await in_thread(archive.read, CHUNK):
            yield piece

    kind = {"Content-Type": "application/x-tar"}
    async with gate.upstream.request("POST", "/images/load", {"quiet": "1"}, stream=pieces(), headers=kind) as reply:
        return (await reply.whole()).content


async def _take(gate: Gate, anchor: str) -> str | None:
    image = await gate.upstream.ask("GET", f"/images/{anchor}/json")
    if not image.ok:
        return None
    image_id = str(image.json()["Id"])
    await keep_image(gate.upstream, gate.journal, image_id, anchor)
    return image_id


def _scratch(gate: Gate) -> IO[bytes]:
    """A file that goes when it is closed, beside the journal: where there is room, and nobody else looks."""
    return TemporaryFile(dir=gate.journal.folder)
