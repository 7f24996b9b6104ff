"""Answers about volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.errors import Conflict
from agent.gate import bodies, names, pruning, shown, strict_json
from agent.gate.answers import pass_on
from agent.gate.objects import in_memory, volume_body
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


async def have_volume(gate: Gate, name: str, body: dict[str, Any] | None = None) -> str:
    """The volume of that name, made if the build has none. Raises Conflict if it is another's."""
    if (own := gate.own.volume_name(name)) is not None:
        return own
    async with gate.making("volume") as labels:
        memory = _see_memory(gate, in_memory((body or {}).get("DriverOpts", {})))
        wanted = {**(body or {}), "Name": gate.prefix + name if name else ""}
        wanted["Labels"] = {**wanted.get("Labels", {}), **labels}
        made = (await gate.upstream.ask("POST", "/volumes/create", body=wanted)).done().json()
        if not labels.items() <= (made.get("Labels") or {}).items():  # it was there before
            raise Conflict(f"the volume name {name!r} is in use; take another")
        gate.journal.add("volume", made["Name"], str(memory or ""))
        gate.new_volumes.add(made["Name"])
    return str(made["Name"])


def _see_memory(gate: Gate, more: int) -> int:
    """The same; raises Refused if volumes in memory, which no container is charged with, would take too much."""
    most, taken = gate.policy.limits.memory, sum(int(each or 0) for each in gate.journal.all("volume").values())
    if more and taken + more > most:
        raise Refused(
            "limits.memory", f"DriverOpts: volumes in memory may take {most} bytes in all, of which {taken} are taken"
        )
    return more


async def removed(gate: Gate, exchange: Exchange, name: str) -> None:
    """DELETE /volumes/NAME."""
    query = only(exchange, "force")
    if gate.own.volume_name(name) is None and query.get("force") in {"1", "true"}:
        await exchange.answer(204)
        return
    async with gate.lock:  # or a container that is just made would have the engine make it anew
        volume = await gate.own.volume(name)
        answer = await gate.upstream.ask("DELETE", f"/volumes/{volume['Name']}", query)
        if answer.ok:
            gate.journal.remove("volume", volume["Name"])
    if answer.status == 409:
        raise Conflict(answer.message())
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
