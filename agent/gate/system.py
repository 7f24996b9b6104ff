"""What the gate says of the engine: what a client needs to talk to it, and nothing of the host's other users."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agent import references
from agent.errors import InvalidRequest
from agent.gate import names, shown
from agent.gate.exchange import API_VERSION
from agent.gate.own import familiar
from agent.gate.queries import filters, of_build, only
from agent.gate.strict_json import emit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate
    from agent.gate.journal import Kind

_EVENT_TYPES = ("container", "network", "volume")
_EVENT_FILTERS = {"type", "event", "action", "label", "image", "scope", *_EVENT_TYPES}
_VERSION = ("Version", "Os", "Arch", "KernelVersion", "GoVersion", "GitCommit", "BuildTime")
_INFO = (
    *(
        "ServerVersion",
        "Driver",
        "OSType",
        "Architecture",
        "OperatingSystem",
        "OSVersion",
        "KernelVersion",
        "CgroupDriver",
    ),
    *("CgroupVersion", "MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit"),
    *("IPv4Forwarding", "LoggingDriver", "DefaultRuntime", "IndexServerAddress", "OomKillDisable"),
)


async def ping(gate: Gate, exchange: Exchange) -> None:
    """`/_ping`, with BuildKit as what clients are to build with, if there is a builder."""
    headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-cache"}
    if gate.builder is not None:
        headers["Builder-Version"] = "2"
    await exchange.answer(200, b"OK", headers)


async def version(gate: Gate, exchange: Exchange) -> None:
    """`/version`: of the engine, and of the one API that is spoken here."""
    known = (await gate.upstream.ask("GET", "/version")).done().json()
    shown = {name: known[name] for name in _VERSION if name in known}
    engine = {
        "Name": "Engine",
        "Version": known["Version"],
        "Details": {
            "ApiVersion": API_VERSION,
            "MinAPIVersion": "1.24",
            **{name: known[name] for name in _VERSION[1:] if name in known},
        },
    }
    facts = {
        "ApiVersion": API_VERSION,
        "MinAPIVersion": "1.24",
        "Components": [engine],
        "Platform": {"Name": "Sibling"},
    }
    await exchange.answer(200, {**shown, **facts})


async def info(gate: Gate, exchange: Exchange) -> None:
    """`/info`: facts of the engine, the limits of a container as the machine, and counts of what is the build's."""
    known = (await gate.upstream.ask("GET", "/info")).done().json()
    limits = gate.policy.limits
    states = Counter(each["State"] for each in await _containers(gate))
    await exchange.answer(
        200,
        {
            **{name: known[name] for name in _INFO if name in known},
            "ID": gate.build,
            "Name": "sibling-gate",
            "Containers": states.total(),
            "ContainersRunning": states["running"],
            "ContainersPaused": states["paused"],
            "ContainersStopped": states.total() - states["running"] - states["paused"],
            "Images": gate.journal.count("image"),
            "NCPU": known["NCPU"],
            "MemTotal": min(known["MemTotal"], limits.memory),
            "Plugins": {"Volume": ["local"], "Network": ["bridge"], "Authorization": None, "Log": ["json-file"]},
            "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": [], "Mirrors": []},
            "SecurityOptions": known.get("SecurityOptions") or [],
            "Runtimes": {"runc": {"path": "runc"}},
            "Swarm": {"LocalNodeState": "inactive", "NodeID": "", "NodeAddr": "", "Error": ""},
            "Warnings": None,
        },
    )


async def disk_usage(gate: Gate, exchange: Exchange) -> None:
    """`/system/df` of the build's own things. The engine's BuildKit is not for builds, and has nothing of theirs.

    Without what containers and volumes have, for which the engine would look into them: see `snapshots`.
    """
    only(exchange, "type")
    containers = await _containers(gate)
    used = Counter(each["ImageID"] for each in containers)
    found = (await gate.upstream.ask("GET", "/images/json")).done().json()
    own = [each for each in found if gate.journal.has("image", each["Id"])]
    images = [{**gate.own.shown(each), "Containers": used[each["Id"]]} for each in own]
    there = (await gate.upstream.ask("GET", "/volumes")).done().json()["Volumes"] or ()
    volumes = [each for each in there if gate.journal.has("volume", each["Name"])]
    mounted = Counter(mount["Name"] for each in containers for mount in each["Mounts"] if mount["Type"] == "volume")
    await exchange.answer(
        200,
        {
            "LayersSize": sum(each["Size"] for each in images),
            "Images": images,
            "Containers": [shown.listed(each, gate.shown_as) for each in containers],
            "Volumes": [
                {**shown.volume(each), "UsageData": {"Size": -1, "RefCount": mounted[each["Name"]]}} for each in volumes
            ],
            "BuildCache": [],
        },
    )


async def _containers(gate: Gate) -> list[dict[str, Any]]:
    """The build's own, as the engine lists them, running or not."""
    query = {"all": "1", **of_build(gate.build, {})}
    async with gate.listing:
        found = (await gate.upstream.ask("GET", "/containers/json", query)).done().json()
    return [each for each in found if gate.journal.has("container", each["Id"])]


async def plugins(_: Gate, exchange: Exchange) -> None:
    """`/plugins`: builds have none."""
    await exchange.answer(200, [])


async def events(gate: Gate, exchange: Exchange) -> None:
    """`/events` of the build's own things. Each is looked at, since the engine labels those of containers alone."""
    query = only(exchange, "filters", "since", "until")
    asked = filters(query.pop("filters", ""), _EVENT_FILTERS)
    images = asked.pop("image", [])
    known = {"container": gate.own.known_id, "network": gate.own.network_id, "volume": gate.own.volume_name}
    for kind in known.keys() & asked.keys():  # what is gone is told of by its name
        asked[kind] = [known[kind](each) or gate.prefix + each for each in asked[kind]]
    async with gate.upstream.request("GET", "/events", {**query, "filters": emit(asked).decode()}) as reply:
        own_events = _own_events(gate, names.lines(reply.pieces(), ""), images)
        await exchange.relay(reply.status, names.lines(own_events, gate.prefix), {"Content-Type": "application/json"})


async def _own_events(gate: Gate, lines: AsyncIterator[bytes], images: Collection[str]) -> AsyncIterator[bytes]:
    """As the build is shown them, without those of others; if images are given, those of what came of them."""
    async for line in lines:
        event = json.loads(line)
        if event["Type"] in _EVENT_TYPES and await _is_own(gate, event["Type"], event["Actor"]):
            event = shown.event(event, gate.shown_as)
            if not images or not _names_of(event["Actor"]).isdisjoint(images):
                yield emit(event) + b"\n"


def _names_of(actor: dict[str, Any]) -> set[str]:
    """By which a filter finds its image: the engine knows another name (moby/moby, daemon/events, matchImage)."""
    image = actor["Attributes"].get("image", "")
    found = {actor["ID"], image}
    with suppress(InvalidRequest):
        found.add(familiar(references.parse(image).name))
    return found


async def _is_own(gate: Gate, kind: Kind, actor: dict[str, Any]) -> bool:
    """Whether it tells of something that the build has made, and, if of a container as well, of one of its own."""
    if not gate.journal.had(kind, actor["ID"]):
        async with gate.lock:  # it is told before the answer to who makes it
            pass
    member = actor["Attributes"].get("container")
    return gate.journal.had(kind, actor["ID"]) and (member is None or gate.journal.had("container", member))
