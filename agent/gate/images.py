"""Answers about images. A name that a build gives exists in its gate alone: the engine has the image by a private name.

So no shared name can be moved, removed or stood in for; what policy names is there for all, as the engine has it.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from agent import references
from agent.errors import InvalidRequest
from agent.gate import archives, bodies, changes, keeping, logins, packed, pulls, snapshots, strict_json
from agent.gate.answers import pass_on
from agent.gate.exchange import PATIENCE
from agent.gate.own import familiar, is_id, new_tag, repository
from agent.gate.policy import Refused
from agent.gate.queries import filters, only, several
from agent.gate.removal import keep_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate

_MOST_PATTERN = 200  # characters of a filter by reference
_FILTERS = {"reference", "label", "dangling", "until", "before", "since"}


async def listed(gate: Gate, exchange: Exchange) -> None:
    """GET /images/json: the build's own, and those that policy names."""
    query = only(exchange, "all", "filters", "digests", "manifests")  # shared sizes tell of images of others
    await gate.bring()
    asked = filters(query.pop("filters", ""), _FILTERS)
    names, dangling = asked.pop("reference", []), asked.pop("dangling", [])
    if too_long := [each for each in names if len(each) > _MOST_PATTERN]:
        raise Refused("query", f"the filter reference: {too_long[0]!r} is over {_MOST_PATTERN} characters")
    for times in {"before", "since"} & asked.keys():
        asked[times] = [(await gate.own.image(each))["Id"] for each in asked[times]]
    whole = {**query, "filters": strict_json.emit(asked).decode()}
    found = (await gate.upstream.ask("GET", "/images/json", whole)).done().json()
    seen = [gate.own.shown(each) for each in found]
    there = [each for each in seen if each["RepoTags"] or gate.journal.has("image", each["Id"])]
    if names:
        kinds = ("RepoTags", "RepoDigests")
        there = [{**each, **{kind: _matching(each[kind], names) for kind in kinds}} for each in there]
        there = [each for each in there if any(each[kind] for kind in kinds)]
    if dangling:
        there = [each for each in there if bool(each["RepoTags"]) == (dangling[0] in {"0", "false"})]
    await exchange.answer(200, there)


def _matching(given: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in given if any(_matches(name, pattern) for pattern in patterns)]


def _matches(name: str, pattern: str) -> bool:
    """As path.Match has it, in which `*` stands for no `/`: on the whole name, or on it without tag or digest."""
    parts = pattern.split("/")
    return any(
        len(parts) == len(given) and all(map(fnmatch.fnmatchcase, given, parts))
        for given in (name.split("/"), repository(name).split("/"))
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
    tag = new_tag(query["repo"], query.get("tag", "")) if query.get("repo") else None
    kept = [pair for pair in several(query) if pair[0] in {"message", "changes"}]
    changes.see_cheap([value for name, value in kept if name == "changes"], ())
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
    tag = new_tag(query["repo"], query.get("tag", "")) if query.get("repo") else None
    container = await gate.own.container(query.get("container", ""))
    asked = await gate.understood(
        exchange, lambda data: bodies.set_of(bodies.ContainerBody, strict_json.parse(data or b"null"))
    )
    if asked:
        raise Refused("field", f"{asked[0]} is not for builds; give it as one of the changes")
    kept = [pair for pair in several(query) if pair[0] in {"comment", "author", "changes"}]
    changes.see_cheap([value for name, value in kept if name == "changes"], container["Config"]["Env"] or ())
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
    tag = new_tag(query.get("repo", ""), query.get("tag", ""))
    image = (await gate.own.image(name))["Id"]
    await keeping.have(gate, image)
    keeping.name(gate, tag, image)
    await exchange.answer(201)


async def at_registry(gate: Gate, exchange: Exchange, name: str) -> None:
    """GET /distribution/NAME/json: what a registry has by a name that may be pulled."""
    only(exchange)
    reference = references.parse(name)
    pulls.see_allowed(gate, reference)
    path = f"/distribution/{reference}/json"
    async with gate.upstream.request("GET", path, headers=logins.one(exchange, needed=True)) as reply:
        await pass_on(exchange, await reply.whole())


async def _made(gate: Gate, image: str, anchor: str, tag: str | None) -> None:
    await keep_image(gate.upstream, gate.journal, image, anchor)
    if tag is not None:
        keeping.name(gate, tag, image)
