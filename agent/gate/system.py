"""What the gate says of the engine: what a client needs to talk to it, and nothing of the host's other users."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from agent.gate import names, shown
from agent.gate.exchange import API_VERSION
from agent.gate.queries import filters, of_build, only
from agent.gate.removal import forget_gone

if TYPE_CHECKING:
    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate

_EVENT_FILTERS = {"type", "event", "action", "container", "label", "image", "scope"}
_VERSION = ("Version", "Os", "Arch", "KernelVersion")
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
            **{
                name: known[name]
                for name in ("Os", "Arch", "KernelVersion", "GoVersion", "GitCommit", "BuildTime")
                if name in known
            },
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
    await forget_gone(gate.upstream, gate.journal)
    await exchange.answer(
        200,
        {
            **{name: known[name] for name in _INFO if name in known},
            "ID": gate.build,
            "Name": "sibling-gate",
            "Containers": gate.journal.count("container"),
            "Images": gate.journal.count("image"),
            "NCPU": known["NCPU"],
            "MemTotal": min(known["MemTotal"], limits.memory),
            "Plugins": {"Volume": ["local"], "Network": ["bridge"], "Authorization": None, "Log": ["json-file"]},
            "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": [], "Mirrors": []},
            "SecurityOptions": known.get("SecurityOptions") or [],
            "Runtimes": {"runc": {"path": "runc"}},
            "Swarm": {"LocalNodeState": "inactive"},
            "Warnings": None,
        },
    )


async def disk_usage(gate: Gate, exchange: Exchange) -> None:
    """`/system/df` of the build's own things. The engine's BuildKit is not for builds, and has nothing of theirs."""
    only(exchange, "type")
    found = (await gate.upstream.ask("GET", "/system/df")).done().json()
    containers = [each for each in found["Containers"] or () if gate.journal.has("container", each["Id"])]
    used = Counter(each["ImageID"] for each in containers)
    own = [each for each in found["Images"] or () if gate.journal.has("image", each["Id"])]
    images = [{**gate.own.shown(each), "Containers": used[each["Id"]]} for each in own]
    volumes = [each for each in found["Volumes"] or () if gate.journal.has("volume", each["Name"])]
    await exchange.answer(
        200,
        {
            "LayersSize": sum(each["Size"] for each in images),
            "Images": images,
            "Containers": [shown.listed(each, gate.shown_as) for each in containers],
            "Volumes": [shown.volume(each) for each in volumes],
            "BuildCache": [],
        },
    )


async def events(gate: Gate, exchange: Exchange) -> None:
    """`/events` of the build's own things: asked for by its label, and each looked at again."""
    query = only(exchange, "filters", "since", "until")
    asked = filters(query.get("filters", ""), _EVENT_FILTERS)
    if wanted := asked.get("container"):
        asked = {**asked, "container": [gate.own.known_id(each) or each for each in wanted]}
    times: dict[str, str] = {name: query[name] for name in ("since", "until") if name in query}
    async with gate.upstream.request("GET", "/events", {**times, **of_build(gate.build, asked)}) as reply:
        await exchange.relay(
            reply.status,
            names.lines(reply.pieces(), gate.prefix, partial(_own_event, gate)),
            {"Content-Type": "application/json"},
        )


def _own_event(gate: Gate, line: bytes) -> bytes:
    """As the build is shown it; nothing if it is another's."""
    event = json.loads(line)
    own = event.get("Type") == "container" and event.get("Actor", {}).get("ID") in gate.made
    return json.dumps(shown.event(event)).encode() if own else b""
