"""Answers about networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.errors import Conflict, InvalidRequest, NotFound
from agent.gate import bodies, names, pruning, shown, strict_json
from agent.gate.answers import pass_on
from agent.gate.objects import connect_body, network_body
from agent.gate.policy import Refused
from agent.gate.queries import filters, only

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate

_FILTERS = {"name", "id", "label", "driver", "type", "scope", "dangling"}
_TYPES = {"builtin", "custom"}
_TRUE = {"true", "1"}
_BRIDGE = "bridge"
_PLAIN = {"host", "none"}  # which engines have from the start: shown, and no more


async def listed(gate: Gate, exchange: Exchange) -> None:
    """GET /networks. The type is that of the name that is shown: the engine takes `bridge` for one that was made."""
    asked = filters(only(exchange, "filters").get("filters", ""), _FILTERS)
    types = _types(asked.pop("type", _TYPES))
    if not _TRUE.isdisjoint(asked.get("dangling", ())):  # those that are builtin never are
        types -= {"builtin"}
    theirs = asked
    if wanted := asked.get("name"):
        own = [f"^{gate.network_name}$"] if any(each.strip("^$") == _BRIDGE for each in wanted) else []
        theirs = {**asked, "name": [*names.patterns(wanted, gate.prefix), *own]}
    found = [shown.network(each, gate.shown_as) for each in await _found(gate, theirs)]
    found += await _plain(gate, asked) if "builtin" in types else []
    builtin = {_BRIDGE, *_PLAIN}
    await exchange.answer(
        200, [each for each in found if ("builtin" if each["Name"] in builtin else "custom") in types]
    )


def _types(asked: Collection[str]) -> set[str]:
    for each in asked:
        if each not in _TYPES:
            raise InvalidRequest(f"invalid filter: 'type'='{each[:100]}'")
    return {*asked}


async def _plain(gate: Gate, asked: dict[str, list[str]]) -> list[dict[str, Any]]:
    """`host` and `none`, without what is on them."""
    found = await _asked(gate, {**asked, "type": ["builtin"]})
    return [{**each, "Containers": {}} for each in found if each["Name"] in _PLAIN]


async def _found(gate: Gate, asked: dict[str, list[str]]) -> list[dict[str, Any]]:
    return [each for each in await _asked(gate, asked) if gate.journal.has("network", each["Id"])]


async def _asked(gate: Gate, asked: dict[str, list[str]]) -> list[dict[str, Any]]:
    query = {"filters": strict_json.emit(asked).decode()}
    found: list[dict[str, Any]] = (await gate.upstream.ask("GET", "/networks", query)).done().json()
    return found


async def inspected(gate: Gate, exchange: Exchange, name: str) -> None:
    """GET /networks/NAME, with the build's containers alone."""
    only(exchange, "verbose", "scope")
    found = shown.network(await _one(gate, name), gate.shown_as)
    own = {each: end for each, end in (found.get("Containers") or {}).items() if gate.journal.has("container", each)}
    await exchange.answer(200, {**found, "Containers": own})


async def _one(gate: Gate, name: str) -> dict[str, Any]:
    """One that the build may look at. Raises NotFound."""
    try:
        return await gate.own_network(name)
    except NotFound:
        for each in await _plain(gate, {}):
            if name == each["Name"] or each["Id"].startswith(name):
                return each
        raise


async def created(gate: Gate, exchange: Exchange) -> None:
    """POST /networks/create."""
    only(exchange)
    body = await gate.read(exchange, bodies.NetworkBody)
    whole = network_body(body, gate.policy)
    name, whole["Name"] = whole["Name"], gate.prefix + whole["Name"]
    async with gate.making("network") as labels:
        whole["Labels"] = {**whole.get("Labels", {}), **labels}
        answer = await gate.upstream.ask("POST", "/networks/create", body=whole)
        if answer.ok:
            gate.journal.add("network", answer.json()["Id"], name)
    if answer.status == 409:
        raise Conflict(f"network with name {name} already exists")
    await pass_on(exchange, answer)


async def removed(gate: Gate, exchange: Exchange, name: str) -> None:
    """DELETE /networks/NAME. The engine refuses it while a container that runs is there.

    One that does not is no hindrance: the name that it is to have at its start is below the build's prefix.
    """
    only(exchange)
    network = await gate.own.network(name)
    if network["Name"] == gate.network_name:
        raise Refused("field", "bridge is the build's own network, and is not removed")
    async with gate.lock:
        if _gateways(network) & await _published_at(gate):
            raise Conflict(f"network {name} has containers that publish ports; remove these first, stopped ones too")
        answer = await gate.upstream.ask("DELETE", f"/networks/{network['Id']}")
        if answer.ok or answer.status == 404:
            gate.journal.remove("network", network["Id"])
    await pass_on(exchange, answer)


def _gateways(network: dict[str, Any]) -> set[str]:
    return {each["Gateway"] for each in network["IPAM"]["Config"] or () if "Gateway" in each}


async def _published_at(gate: Gate) -> set[str]:
    """Addresses at which the build's containers publish ports when they start, as long as they are the build's."""
    found = set()
    for container in gate.journal.all("container"):
        answer = await gate.upstream.ask("GET", f"/containers/{container}/json")
        bindings = (answer.json()["HostConfig"]["PortBindings"] or {}).values() if answer.ok else ()
        found |= {each["HostIp"] for one in bindings for each in one or ()}
    return found


async def connected(gate: Gate, exchange: Exchange, name: str) -> None:
    """POST /networks/NAME/connect."""
    only(exchange)
    body = await gate.read(exchange, bodies.ConnectBody)
    network, container = await gate.own_network(name), gate.own.container_id(body.Container)
    links = body.EndpointConfig.Links if body.EndpointConfig else ()
    named = {each.partition(":")[0] for each in links}
    known_as = gate.journal.all("container")[container]
    whole = connect_body(body, container, known_as, {each: gate.own.container_id(each) for each in named})
    async with gate.lock:
        gate.see_network(network["Id"])
        answer = await gate.upstream.ask("POST", f"/networks/{network['Id']}/connect", body=whole)
    await pass_on(exchange, answer)


async def disconnected(gate: Gate, exchange: Exchange, name: str) -> None:
    """POST /networks/NAME/disconnect."""
    only(exchange)
    body = await gate.read(exchange, bodies.DisconnectBody)
    network, container = await gate.own_network(name), gate.own.container_id(body.Container)
    whole = {"Container": container, "Force": body.Force}
    await pass_on(exchange, await gate.upstream.ask("POST", f"/networks/{network['Id']}/disconnect", body=whole))


async def pruned(gate: Gate, exchange: Exchange) -> None:
    """POST /networks/prune: the build's own that no container has."""
    asked = filters(only(exchange, "filters").get("filters", ""), pruning.KNOWN)
    await exchange.nothing()
    gone = []
    async with gate.lock:
        used = {gate.network_name} | await _published_at(gate)
        for network in await _found(gate, {"dangling": ["true"]}):
            free = not {network["Name"], *_gateways(network)} & used
            if (
                free
                and pruning.meant(asked, network["Labels"], network["Created"])
                and (await gate.upstream.ask("DELETE", f"/networks/{network['Id']}")).ok
            ):
                gate.journal.remove("network", network["Id"])
                gone.append(network["Name"])
    await exchange.answer(200, {"NetworksDeleted": gone})
