"""Answers about images. A name that a build gives exists in its gate alone: the engine has the image by a private name.

So no shared name can be moved, removed or stood in for; what policy names is there for all, as the engine has it.
"""

from __future__ import annotations

import fnmatch
import re
from functools import partial
from typing import TYPE_CHECKING

from agent import references
from agent.errors import Conflict, InvalidRequest, NotFound
from agent.gate import archives, bodies, keeping, logins, packed, pruning, pulls, snapshots, strict_json
from agent.gate.answers import pass_on
from agent.gate.exchange import PATIENCE
from agent.gate.names import lines
from agent.gate.own import familiar, is_id, new_tag
from agent.gate.policy import Refused
from agent.gate.queries import containers_with, filters, only, several
from agent.gate.removal import end_pushes, keep_image, untag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate

_DIGEST = re.compile(rb'"Digest":"(sha256:[0-9a-f]{64})"')
_FILTERS = {"reference", "label", "dangling", "until", "before", "since"}


async def listed(gate: Gate, exchange: Exchange) -> None:
    """GET /images/json: the build's own, and those that policy names."""
    query = only(exchange, "all", "filters", "digests", "manifests")  # shared sizes tell of images of others
    await gate.bring()
    asked = filters(query.pop("filters", ""), _FILTERS)
    names, dangling = asked.pop("reference", []), asked.pop("dangling", [])
    for times in {"before", "since"} & asked.keys():
        asked[times] = [(await gate.own.image(each))["Id"] for each in asked[times]]
    whole = {**query, "filters": strict_json.emit(asked).decode()}
    found = (await gate.upstream.ask("GET", "/images/json", whole)).done().json()
    seen = [gate.own.shown(each) for each in found]
    there = [each for each in seen if each["RepoTags"] or gate.journal.has("image", each["Id"])]
    if names:
        matching = [[tag for tag in each["RepoTags"] if any(_matches(tag, name) for name in names)] for each in there]
        there = [{**each, "RepoTags": tags} for each, tags in zip(there, matching, strict=True) if tags]
    if dangling:
        there = [each for each in there if bool(each["RepoTags"]) == (dangling[0] in {"0", "false"})]
    await exchange.answer(200, there)


def _matches(tag: str, pattern: str) -> bool:
    """As path.Match has it, in which `*` stands for no `/`: on the whole name, or on it without its tag."""
    parts = pattern.split("/")
    return any(
        len(parts) == len(given) and all(map(fnmatch.fnmatchcase, given, parts))
        for given in (tag.split("/"), tag.rpartition(":")[0].split("/"))
    )


async def inspected(gate: Gate, exchange: Exchange, name: str) -> None:
    """GET /images/NAME/json."""
    only(exchange)
    await exchange.answer(200, await gate.own.image(name))


async def history(gate: Gate, exchange: Exchange, name: str) -> None:
    """GET /images/NAME/history."""
    only(exchange)
    image = await gate.own.image(name)
    layers = (await gate.upstream.ask("GET", f"/images/{image['Id']}/history")).done().json()
    await exchange.answer(200, [{**each, "Tags": None} for each in layers])


async def brought(gate: Gate, exchange: Exchange) -> None:
    """POST /images/create: a pull, or the import of a tar that comes with the request."""
    query = only(exchange, "fromImage", "fromSrc", "repo", "tag", "platform", "message", "changes")
    if query.get("fromSrc"):
        await _imported(gate, exchange, query)
    else:
        await pulls.pulled(gate, exchange, query)


async def _imported(gate: Gate, exchange: Exchange, query: dict[str, str]) -> None:
    if query["fromSrc"] != "-" or query.get("fromImage"):
        raise Refused("import", "an image is imported from the request's body alone; give - as its source")
    tag = _tag_of(query["repo"], query) if query.get("repo") else None
    kept = [pair for pair in several(query) if pair[0] in {"message", "changes"}]
    async with keeping.room(gate) as left:
        with keeping.anchored(gate) as anchor:
            answer = await keeping.bring_in(gate, anchor, packed.plain(exchange.body()), left, *kept)
            image = await gate.upstream.ask("GET", f"/images/{anchor}/json")
            if image.ok:
                await _made(gate, image.json()["Id"], anchor, tag)
    await exchange.answer(answer.status, answer.content, {"Content-Type": "application/json"})


async def committed(gate: Gate, exchange: Exchange) -> None:
    """POST /commit."""
    query = only(exchange, "container", "repo", "tag", "comment", "author", "pause", "changes")
    tag = _tag_of(query["repo"], query) if query.get("repo") else None
    container = await gate.own.container(query.get("container", ""))
    asked = await gate.understood(
        exchange, lambda data: bodies.set_of(bodies.ContainerBody, strict_json.parse(data or b"null"))
    )
    if asked:
        raise Refused("field", f"{asked[0]} is not for builds; give it as one of the changes")
    kept = [pair for pair in several(query) if pair[0] in {"comment", "author", "changes"}]
    async with keeping.room(gate) as left:
        with keeping.anchored(gate) as anchor:
            answer = await snapshots.commit(gate, container, kept, anchor, left)
            if answer.ok:
                await _made(gate, answer.json()["Id"], anchor, tag)
    await pass_on(exchange, answer)


async def saved(gate: Gate, exchange: Exchange, name: str | None = None) -> None:
    """GET /images/NAME/get and /images/get: an archive of what the build may use, under the names that it gave."""
    names = [name] if name is not None else [each for _, each in several(only(exchange, "names"))]
    if not names:
        raise InvalidRequest("names: no image was named")
    tags: dict[str, list[str]] = {}
    for each in [whole for given in names for whole in await gate.own.tags_of(given) or [given]]:
        named = tags.setdefault((await gate.own.image(each))["Id"], [])
        if not is_id(each) and "@" not in each:
            named.append(familiar(str(references.parse(each))))
    renamed = archives.Renamed(tags)
    query = [("names", image) for image in tags]
    async with gate.saving, gate.upstream.request("GET", "/images/get", query) as reply:
        pieces = (renamed.piece(each) async for each in reply.pieces()) if reply.status == 200 else reply.pieces()
        await exchange.relay(reply.status, pieces, {"Content-Type": "application/x-tar"}, PATIENCE)


async def loaded(gate: Gate, exchange: Exchange) -> None:
    """POST /images/load: what an archive has, under names of the build's alone."""
    only(exchange, "quiet")
    async with keeping.received(gate, exchange.body()) as archive:
        tags = [[new_tag(each) for each in names] for names in archive.tags]
        images = await keeping.load(gate, archive)
        said = [line for image, names in zip(images, tags, strict=True) for line in _named(gate, image, names)]
    told = b"".join(strict_json.emit({"stream": f"{line}\n"}) + b"\r\n" for line in said)
    await exchange.answer(200, told, {"Content-Type": "application/json"})


def _named(gate: Gate, image: str, tags: list[str]) -> list[str]:
    """Name a loaded image; returns what is told of it."""
    for tag in tags:
        keeping.name(gate, tag, image)
    return [f"Loaded image: {familiar(tag)}" for tag in tags] or [f"Loaded image ID: {image}"]


async def tagged(gate: Gate, exchange: Exchange, name: str) -> None:
    """POST /images/NAME/tag."""
    query = only(exchange, "repo", "tag")
    await exchange.nothing()
    tag = _tag_of(query.get("repo", ""), query)
    image = (await gate.own.image(name))["Id"]
    await keeping.have(gate, image)
    keeping.name(gate, tag, image)
    await exchange.answer(201)


async def removed(gate: Gate, exchange: Exchange, name: str) -> None:
    """DELETE /images/NAME: an own name; with the last of them, or by its id, the image as well."""
    query = only(exchange, "force", "noprune")
    image = (await gate.own.image(name))["Id"]
    tag = gate.own.tag_of(name)
    if not gate.journal.has("image", image) or (tag is None and not is_id(name)):
        raise Refused("image-remove", f"{name} is there for all builds, and is not removed")
    tags = [each for each, image_id in gate.journal.all("tag").items() if image_id == image]
    if tag is None and len(tags) > 1 and query.get("force") not in {"1", "true"}:
        raise Conflict(f"image {name} has several names; remove them one by one, or with force")
    gone: list[dict[str, str]] = []
    if tag is None or tags == [tag]:
        if (deleted := await _deleted(gate, image, query)) is None:
            raise Conflict(f"image {name} is in use by a container")
        gone = deleted
    else:
        tags = [tag]
    for each in tags:
        gate.journal.remove("tag", each)
    await exchange.answer(200, [*({"Untagged": familiar(each)} for each in tags), *gone])


async def _deleted(gate: Gate, image: str, query: Mapping[str, str]) -> list[dict[str, str]] | None:
    """Remove an image of the build's; what the engine says is deleted by it, or None if a container has it."""
    anchor = gate.journal.all("image")[image]
    if any(not gate.journal.has("container", each) for each in await _holders(gate, image)):  # others' stay whole
        answer = await untag(gate.upstream, image, anchor)
    else:
        answer = await gate.upstream.ask("DELETE", f"/images/{anchor}", query)
    if answer.status == 409:
        return None
    gone = [each for each in answer.done().json() if "Deleted" in each]
    gate.journal.remove("image", image)
    return gone


async def _holders(gate: Gate, image: str) -> list[str]:
    """The containers of it, or of one that was made from it, also those of others."""
    found = (await gate.upstream.ask("GET", "/containers/json", containers_with("ancestor", image))).done().json()
    return [each["Id"] for each in found]


async def pushed(gate: Gate, exchange: Exchange, name: str) -> None:
    """POST /images/NAME/push, of an own image. Its name is on the engine for as long as that takes."""
    query = only(exchange, "tag", "platform")
    await exchange.nothing()
    tag = _tag_of(name, query)
    reference = references.parse(tag)
    if not gate.policy.may_push(reference):
        raise Refused("push", f"{reference} is not among the images that may be pushed")
    await gate.bring()
    image = gate.journal.all("tag").get(tag)
    if image is None:
        raise NotFound(f"An image does not exist locally with the tag: {familiar(tag)}")
    there = await gate.upstream.ask("GET", f"/images/{tag}/json")
    if there.ok and there.json()["Id"] != image:
        raise Conflict(
            f"the engine has another image by the name {familiar(tag)}, pulled by somebody else; take another name"
        )
    if not there.ok:
        gate.journal.add("push", tag, image)
        for name_there in (references.push_mark(tag), tag):
            repository, _, word = name_there.rpartition(":")
            named = {"repo": repository, "tag": word}
            (await gate.upstream.ask("POST", f"/images/{image}/tag", named)).done()
    try:
        path, tags = f"/images/{reference.name}/push", {"tag": reference.tag or ""}
        async with gate.upstream.request("POST", path, tags, headers=logins.one(exchange, needed=True)) as reply:
            said = lines(reply.pieces(), "", partial(_see_digest, gate, image, reference.name))
            await exchange.relay(reply.status, said, {"Content-Type": "application/json"})
    finally:
        await end_pushes(gate.upstream, gate.journal, tag)


def _see_digest(gate: Gate, image: str, repository: str, line: bytes) -> bytes:
    """A line of what a push says; the last one tells the digest by which the registry has the image."""
    if (told := _DIGEST.search(line)) is not None:
        gate.own.digests.setdefault(image, []).append(f"{familiar(repository)}@{told[1].decode()}")
    return line


async def at_registry(gate: Gate, exchange: Exchange, name: str) -> None:
    """GET /distribution/NAME/json: what a registry has by a name that may be pulled."""
    only(exchange)
    reference = references.parse(name)
    pulls.see_allowed(gate, reference)
    path = f"/distribution/{reference}/json"
    async with gate.upstream.request("GET", path, headers=logins.one(exchange, needed=True)) as reply:
        await pass_on(exchange, await reply.whole())


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
            if (tags and not is_whole) or gate.journal.all("container").keys() & {*await _holders(gate, image)}:
                continue
            if (deleted := await _deleted(gate, image, {})) is not None:
                for tag in tags:
                    gate.journal.remove("tag", tag)
                gone += [*({"Untagged": familiar(tag)} for tag in tags), *deleted]
    await exchange.answer(200, {"ImagesDeleted": gone or None, "SpaceReclaimed": 0})


async def _made(gate: Gate, image: str, anchor: str, tag: str | None) -> None:
    await keep_image(gate.upstream, gate.journal, image, anchor)
    if tag is not None:
        keeping.name(gate, tag, image)


def _tag_of(repository: str, query: Mapping[str, str]) -> str:
    return new_tag(f"{repository}:{query['tag']}" if query.get("tag") else repository)
