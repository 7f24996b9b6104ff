"""Answers about volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import Conflict
from agent.gate import bodies, names, pruning, shown, strict_json
from agent.gate.answers import pass_on
from agent.gate.containers import have_volume
from agent.gate.objects import volume_body
from agent.gate.policy import Refused
from agent.gate.queries import filters, only

if TYPE_CHECKING:
    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate

_FILTERS = {"name", "label", "driver", "dangling"}


async def listed(gate: Gate, exchange: Exchange) -> None:
    """GET /volumes."""
    asked = filters(only(exchange, "filters").get("filters", ""), _FILTERS)
    if wanted := asked.get("name"):  # those that the engine named have no prefix
        asked = {**asked, "name": [*names.patterns(wanted, gate.prefix), *wanted]}
    query = {"filters": strict_json.emit(asked).decode()}
    found = (await gate.upstream.ask("GET", "/volumes", query)).done().json()["Volumes"] or []
    own = [shown.volume(each) for each in found if gate.journal.has("volume", each["Name"])]
    await exchange.answer(200, {"Volumes": own, "Warnings": None})


async def inspected(gate: Gate, exchange: Exchange, name: str) -> None:
    """GET /volumes/NAME."""
    only(exchange)
    await exchange.answer(200, shown.volume(await gate.own.volume(name)))


async def created(gate: Gate, exchange: Exchange) -> None:
    """POST /volumes/create; one of the build's own of that name is answered with as it is."""
    only(exchange)
    body = await gate.read(exchange, bodies.VolumeBody)
    whole = volume_body(body, gate.policy.limits.memory)
    name = await have_volume(gate, whole.get("Name", ""), whole)
    await exchange.answer(201, shown.volume(await gate.own.volume(name)))


async def removed(gate: Gate, exchange: Exchange, name: str) -> None:
    """DELETE /volumes/NAME."""
    query = only(exchange, "force")
    if gate.own.volume_name(name) is None and query.get("force") in {"1", "true"}:
        await exchange.answer(204)
        return
    volume = await gate.own.volume(name)
    answer = await gate.upstream.ask("DELETE", f"/volumes/{volume['Name']}", query)
    if answer.status == 409:
        raise Conflict(answer.message())
    if answer.ok:
        gate.journal.remove("volume", volume["Name"])
    await pass_on(exchange, answer)


async def pruned(gate: Gate, exchange: Exchange) -> None:
    """POST /volumes/prune: the build's own that no container has; those with a name only with the filter `all`."""
    asked = filters(only(exchange, "filters").get("filters", ""), {"all", "label", "label!"})
    await exchange.nothing()
    if set(asked.get("all", [])) - {"0", "1", "true", "false"}:
        raise Refused("query", "the filter `all` is true or false")
    whole = bool({"1", "true"} & set(asked.get("all", [])))
    query = {"filters": strict_json.emit({"dangling": ["true"]}).decode()}
    gone = []
    for volume in (await gate.upstream.ask("GET", "/volumes", query)).done().json()["Volumes"] or ():
        name = volume["Name"]
        anonymous = "com.docker.volume.anonymous" in (volume.get("Labels") or {})
        own = gate.journal.has("volume", name) and (whole or anonymous)
        if not (own and pruning.meant(asked, volume.get("Labels"), volume["CreatedAt"])):
            continue
        if (await gate.upstream.ask("DELETE", f"/volumes/{name}")).ok:
            gate.journal.remove("volume", name)
            gone.append(name)
    await exchange.answer(200, {"VolumesDeleted": gone, "SpaceReclaimed": 0})
