"""All that the gate answers, as one table; whatever is not in it is refused. Paths are those of Docker's API."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from agent.errors import InvalidRequest, NotFound
from agent.gate import (
    builds,
    containers,
    creation,
    execs,
    image_removal,
    images,
    listing,
    logins,
    networks,
    pushes,
    system,
    volumes,
)
from agent.gate.containers import acting, streaming
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from agent.gate.exchange import Exchange

Answer = Callable[..., Awaitable[None]]
_OLDEST, _NEWEST = 24, 45
_VERSION = re.compile(r"/v1\.([0-9]{1,3})(?=/)")
_LOGS = ("follow", "stdout", "stderr", "since", "until", "timestamps", "details", "tail")
_IMAGE = "([A-Za-z0-9_.:@/\\[\\]-]+)"

_TABLE: list[tuple[str, str, Answer]] = [
    ("GET", "/_ping", system.ping),
    ("HEAD", "/_ping", system.ping),
    ("GET", "/version", system.version),
    ("GET", "/info", system.info),
    ("GET", "/events", system.events),
    ("GET", "/system/df", system.disk_usage),
    ("GET", "/plugins", system.plugins),
    ("GET", f"/distribution/{_IMAGE}/json", images.at_registry),
    ("GET", "/containers/json", listing.listed),
    ("POST", "/containers/create", creation.created),
    ("POST", "/containers/prune", containers.pruned),
    ("GET", "/containers/([^/]+)/json", containers.inspected),
    ("GET", "/containers/([^/]+)/top", containers.processes),
    ("GET", "/containers/([^/]+)/changes", containers.changes),
    ("GET", "/containers/([^/]+)/logs", streaming("logs", *_LOGS)),
    ("GET", "/containers/([^/]+)/export", streaming("export")),
    ("GET", "/containers/([^/]+)/stats", streaming("stats", "stream", "one-shot")),
    ("POST", "/containers/([^/]+)/start", containers.started),
    ("POST", "/containers/([^/]+)/stop", acting("POST", "stop", "signal", "t")),
    ("POST", "/containers/([^/]+)/restart", containers.restarted),
    ("POST", "/containers/([^/]+)/kill", acting("POST", "kill", "signal")),
    ("POST", "/containers/([^/]+)/pause", acting("POST", "pause")),
    ("POST", "/containers/([^/]+)/unpause", acting("POST", "unpause")),
    ("POST", "/containers/([^/]+)/resize", acting("POST", "resize", "h", "w")),
    ("POST", "/containers/([^/]+)/update", containers.updated),
    ("POST", "/containers/([^/]+)/rename", containers.renamed),
    ("POST", "/containers/([^/]+)/attach", containers.attached),
    ("POST", "/containers/([^/]+)/wait", containers.waited),
    ("DELETE", "/containers/([^/]+)", containers.removed),
    ("GET", "/containers/([^/]+)/archive", containers.archived),
    ("HEAD", "/containers/([^/]+)/archive", containers.archived),
    ("PUT", "/containers/([^/]+)/archive", containers.archived),
    ("POST", "/containers/([^/]+)/exec", execs.created),
    ("POST", "/exec/([^/]+)/start", execs.started),
    ("POST", "/exec/([^/]+)/resize", execs.resized),
    ("GET", "/exec/([^/]+)/json", execs.inspected),
    ("GET", "/images/json", images.listed),
    ("POST", "/images/create", images.brought),
    ("POST", "/images/prune", image_removal.pruned),
    ("GET", f"/images/{_IMAGE}/json", images.inspected),
    ("GET", f"/images/{_IMAGE}/history", images.history),
    ("GET", "/images/get", images.saved),
    ("GET", f"/images/{_IMAGE}/get", images.saved),
    ("POST", "/images/load", images.loaded),
    ("POST", f"/images/{_IMAGE}/tag", images.tagged),
    ("POST", f"/images/{_IMAGE}/push", pushes.pushed),
    ("DELETE", f"/images/{_IMAGE}", image_removal.removed),
    ("POST", "/commit", images.committed),
    ("POST", "/auth", logins.checked),
    ("POST", "/build", builds.built),
    ("POST", "/build/prune", builds.pruned),
    ("POST", "/build/cancel", builds.cancelled),
    ("POST", "/session", builds.served),
    ("POST", "/grpc", builds.called),
    ("GET", "/networks", networks.listed),
    ("POST", "/networks/create", networks.created),
    ("POST", "/networks/prune", networks.pruned),
    ("GET", "/networks/([^/]+)", networks.inspected),
    ("POST", "/networks/([^/]+)/connect", networks.connected),
    ("POST", "/networks/([^/]+)/disconnect", networks.disconnected),
    ("DELETE", "/networks/([^/]+)", networks.removed),
    ("GET", "/volumes", volumes.listed),
    ("POST", "/volumes/create", volumes.created),
    ("POST", "/volumes/prune", volumes.pruned),
    ("GET", "/volumes/([^/]+)", volumes.inspected),
    ("DELETE", "/volumes/([^/]+)", volumes.removed),
]
ROUTES = [(method, re.compile(path), answer) for method, path, answer in _TABLE]
# `docker inspect` asks for all kinds of things by a name, until there is one.
_NOWHERE = re.compile(r"/(?:(container|plugin)s/(.+)/json|(network|volume|service|task|node|secret|config)s/(.+))")


async def answer(gate: Any, exchange: Exchange) -> None:
    """Answer one request. Raises Refused, NotFound, Conflict, InvalidRequest, EngineError."""
    method, path = exchange.request.method, _unversioned(exchange.request.path)
    for allowed, pattern, handler in ROUTES:
        if method == allowed and (match := pattern.fullmatch(path)):
            await handler(gate, exchange, *match.groups())
            return
    if method == "GET" and (missing := _NOWHERE.fullmatch(path)):
        raise NotFound(f"No such {missing[1] or missing[3]}: {missing[2] or missing[4]}")
    raise Refused("route", f"{method} {path}: it is not among what is served")


def _unversioned(path: str) -> str:
    match = _VERSION.match(path)
    if match is None:
        return path
    minor = int(match[1])  # in the engine's words, for which clients look
    if minor < _OLDEST:
        raise InvalidRequest(f"client version 1.{minor} is too old. Minimum supported API version is 1.{_OLDEST}")
    if minor > _NEWEST:
        raise InvalidRequest(f"client version 1.{minor} is too new. Maximum supported API version is 1.{_NEWEST}")
    return path[match.end() :]
