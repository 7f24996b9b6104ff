"""Answers about images that go: own names, and with the last one the image. None of others is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import Conflict
from agent.gate import pruning
from agent.gate.own import familiar, is_id, repository
from agent.gate.policy import Refused
from agent.gate.queries import containers_with, filters, of_build, only
from agent.gate.removal import end_pulls, untag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate


async def removed(gate: Gate, exchange: Exchange, name: str) -> None:
    """DELETE /images/NAME: an own name; with the last of them, or by its id, the image as well."""
    query = only(exchange, "force")  # without what it was made from it would leave layers that nobody counts
    image = (await gate.own.image(name))["Id"]
    tag = gate.own.tag_of(name)
    if not gate.journal.has("image", image) or (tag is None and not is_id(name)):
        raise Refused("image-remove", f"{name} is there for all builds, and is not removed")
    tags = [each for each, image_id in gate.journal.all("tag").items() if image_id == image]
    if tag is None and len(tags) > 1 and query.get("force") not in {"1", "true"}:
        raise Conflict(f"image {name} has several names; remove them one by one, or with force")
    if tag is not None and tags != [tag]:
        await exchange.answer(200, await _forgotten(gate, image, [tag], []))
        return
    if (deleted := await _deleted(gate, image, query)) is None:
        raise Conflict(f"image {name} is in use by a container")
    await exchange.answer(200, await _forgotten(gate, image, tags, deleted))


async def _forgotten(
    gate: Gate, image: str, tags: Sequence[str], deleted: Sequence[dict[str, str]]
) -> list[dict[str, str]]:
    """Forget these names of an image, and what goes with them; all that is told of it, with what was `deleted`."""
    for each in tags:
        gate.journal.remove("tag", each)
    digests = _without_tag(gate, image)
    gone = [*deleted, *await end_pulls(gate.upstream, gate.journal, *digests)]
    if not gate.journal.has("image", image):
        await _keep_nameless(gate, image)
    return [*({"Untagged": familiar(each)} for each in (*tags, *digests)), *gone]


def _without_tag(gate: Gate, image: str) -> list[str]:
    """Forget names with a digest in repositories in which the image has no tag any more; returns them."""
    left = {repository(tag) for tag, tagged in gate.journal.all("tag").items() if tagged == image}
    known = gate.own.digests.pop(image, [])
    gone = [each for each in known if repository(each) not in left]
    if len(gone) < len(known):
        gate.own.digests[image] = [each for each in known if each not in gone]
    return gone


async def _keep_nameless(gate: Gate, image: str) -> None:
    """Have it as the build's by its id if the engine left it without a name: a container has it that runs."""
    there = await gate.upstream.ask("GET", f"/images/{image}/json")
    if there.ok and not there.json()["RepoTags"] and await _is_in_use(gate, image):
        gate.journal.add("image", image, image)


async def _deleted(gate: Gate, image: str, query: Mapping[str, str]) -> list[dict[str, str]] | None:
    """Remove an image of the build's; what the engine says is deleted by it, or None if a container has it."""
    anchor = gate.journal.all("image")[image]
    if await _is_of_others(gate, image):
        answer = await untag(gate.upstream, image, anchor)
    else:
        answer = await gate.upstream.ask("DELETE", f"/images/{anchor}", query)
    if answer.status == 409:
        return None
    gone = [each for each in answer.done().json() if "Deleted" in each]
    gate.journal.remove("image", image)
    return gone


async def pruned(gate: Gate, exchange: Exchange) -> None:
    """POST /images/prune: the build's own without a name, or with `dangling` false all that no container has."""
    asked = filters(only(exchange, "filters").get("filters", ""), pruning.KNOWN | {"dangling"})
    await exchange.nothing()
    await gate.bring()
    is_whole = bool({"0", "false"} & {*asked.pop("dangling", ())})
    gone: list[dict[str, str]] = []
    async with gate.images:  # what is just being made has no name yet
        found = (await gate.upstream.ask("GET", "/images/json")).done().json()
        parents = {each["ParentId"] for each in found}
        own = [each for each in found if gate.journal.has("image", each["Id"]) and each["Id"] not in parents]
        for image in [each["Id"] for each in own if pruning.meant(asked, each["Labels"], each["Created"])]:
            tags = [tag for tag, tagged in gate.journal.all("tag").items() if tagged == image]
            if (tags and not is_whole) or await _is_in_use(gate, image):
                continue
            if (deleted := await _deleted(gate, image, {})) is not None:
                gone += await _forgotten(gate, image, tags, deleted)
    await exchange.answer(200, {"ImagesDeleted": gone or None, "SpaceReclaimed": 0})


async def _is_of_others(gate: Gate, image: str) -> bool:
    """Whether others have a container of it, or of one that was made from it."""
    # One more than the build has is enough to see it: of all, there may be too many to read.
    query = {**containers_with("ancestor", image), "limit": str(gate.journal.count("container") + 1)}
    found = (await gate.upstream.ask("GET", "/containers/json", query)).done().json()
    return any(not gate.journal.has("container", each["Id"]) for each in found)


async def _is_in_use(gate: Gate, image: str) -> bool:
    """Whether the build has such a container."""
    query = {"all": "1", **of_build(gate.build, {"ancestor": [image]})}
    return bool((await gate.upstream.ask("GET", "/containers/json", query)).done().json())
