"""Answers about building images: a daemon of the build's trust domain does it (`builder`), never the shared one.

After `/session` and `/grpc` have switched protocols, that daemon speaks BuildKit's gRPC there and nothing else (moby,
api/server/router/session and grpc). BuildKit knows no mount of a path of its host, and asks for an entitlement where a
step is to have more than others; the daemon grants none. So these bytes go on as they are, and no other request does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.errors import InvalidRequest
from agent.gate import keeping, logins
from agent.gate.answers import pass_on
from agent.gate.policy import Refused
from agent.gate.queries import only, several

if TYPE_CHECKING:
    from agent.gate.builder import Builder
    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate

_OPTIONS = (
    *("dockerfile", "t", "remote", "q", "nocache", "cachefrom", "pull", "rm", "forcerm", "buildargs", "labels"),
    *("memory", "memswap", "cpushares", "cpusetcpus", "cpusetmems", "cpuperiod", "cpuquota", "shmsize", "ulimits"),
    *("networkmode", "target", "platform", "extrahosts", "version", "session", "buildid", "outputs"),
)
_NETWORKS = {"", "default", "bridge", "none"}
# What a client serves in a session, and what it calls itself (moby/buildkit, session.go).
_EXPOSED = {
    "x-docker-expose-session-uuid": re.compile(r"[A-Za-z0-9-]{1,64}"),
    "x-docker-expose-session-name": re.compile(r"[\x20-\x7e]{0,255}"),
    "x-docker-expose-session-sharedkey": re.compile(r"[0-9a-zA-Z+/=_:.-]{0,255}"),
    "x-docker-expose-session-grpc-method": re.compile(r"/[A-Za-z0-9_.]{1,100}/[A-Za-z0-9_]{1,100}"),
}


async def built(gate: Gate, exchange: Exchange) -> None:
    """POST /build, by BuildKit or by the builder before it."""
    query = only(exchange, *_OPTIONS)
    if query.get("networkmode", "") not in _NETWORKS:
        raise Refused("build", f"networkmode: a step can have the network default or none, not {query['networkmode']}")
    headers = {"Content-Type": "application/x-tar", **logins.by_registry(exchange)}
    body = keeping.capped(exchange.body(), gate.policy.limits.image_bytes)
    async with (
        _builder(gate).building(gate) as daemon,
        daemon.request("POST", "/build", several(query), stream=body, headers=headers) as reply,
    ):
        await exchange.relay(reply.status, reply.pieces(), {"Content-Type": "application/json"})


async def cancelled(gate: Gate, exchange: Exchange) -> None:
    """POST /build/cancel."""
    query = only(exchange, "id")
    await exchange.nothing()
    async with _builder(gate).building(gate) as daemon:
        answer = await daemon.ask("POST", "/build/cancel", query)
    await pass_on(exchange, answer)


async def pruned(_: Gate, exchange: Exchange) -> None:
    """POST /build/prune: nothing, as the cache is that of all builds of the trust domain, and has its own limit."""
    await exchange.nothing()
    await exchange.answer(200, {"CachesDeleted": [], "SpaceReclaimed": 0})


async def called(gate: Gate, exchange: Exchange) -> None:
    """POST /grpc: BuildKit's API."""
    await _switched(gate, exchange, "/grpc", [])


async def served(gate: Gate, exchange: Exchange) -> None:
    """POST /session: what the client serves to a build, such as its files."""
    given = exchange.request.headers
    headers = [(name, value) for name in _EXPOSED if name in given for value in given[name].split("\n")]
    for name, value in headers:
        if not _EXPOSED[name].fullmatch(value):
            raise InvalidRequest(f"the header field {name} is not as clients send it")
    await _switched(gate, exchange, "/session", headers)


async def _switched(gate: Gate, exchange: Exchange, path: str, headers: list[tuple[str, str]]) -> None:
    builder = _builder(gate)
    only(exchange)
    if exchange.request.headers.get("upgrade") != "h2c":
        raise InvalidRequest(f"{path} is for connections that are upgraded to h2c")
    await exchange.nothing()
    async with (
        builder.building(gate) as daemon,
        daemon.request("POST", path, headers=headers, upgrade="h2c") as reply,
    ):
        if reply.status != 101:
            await pass_on(exchange, await reply.whole())
            return
        await reply.tunnel(exchange, await exchange.switch("h2c", {}))


def _builder(gate: Gate) -> Builder:
    if gate.builder is None:
        raise Refused("build", "there is no builder for this socket; `sibling image build` builds without one")
    return gate.builder
