"""The list of containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.gate import asked, names, shown
from agent.gate.queries import filters, number, of_build, only

if TYPE_CHECKING:
    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate

_UP = {"running", "paused", "restarting"}  # what a list has that is not of all
_STATES = {*_UP, "created", "removing", "exited", "dead"}
_FALSE = {"", "0", "no", "false", "none"}  # as the engine reads a query (moby/moby, httputils.BoolValue)
_FILTERS = {
    *("status", "exited", "name", "id", "label", "ancestor", "before", "since", "volume", "network", "health"),
    *("expose", "publish", "is-task"),
}


async def listed(gate: Gate, exchange: Exchange) -> None:
    """GET /containers/json."""
    query = only(exchange, "all", "limit", "filters")  # no size: see `snapshots`
    wanted = _wanted(gate, filters(query.pop("filters", ""), _FILTERS))
    limit = number("limit", query.pop("limit", ""))  # counted here: the engine would count others' too
    is_all = limit > 0 or query.get("all", "0") not in _FALSE
    states = {*wanted.get("status", ())} or (set() if is_all else _UP)
    if gate.restarts.keep_some and states <= _STATES:  # of those that wait the engine knows only that they ended
        is_all = True
        wanted.pop("status", None)
    query = {"all": str(int(is_all)), **of_build(gate.build, wanted)}
    found = (await gate.upstream.ask("GET", "/containers/json", query)).done().json()
    own = [each for each in map(gate.restarts.listed, found) if gate.journal.has("container", each["Id"])]
    if "status" not in wanted and states:
        own = [each for each in own if each["State"] in states]
    known = gate.journal.all("asked")
    own = [shown.listed(each, gate.shown_as) for each in own]
    own = [{**each, "Mounts": asked.mounts(each["Mounts"], known.get(each["Id"], ""))} for each in own]
    await exchange.answer(200, own[:limit] if limit > 0 else own)


def _wanted(gate: Gate, wanted: dict[str, list[str]]) -> dict[str, list[str]]:
    """Filters by the build's names as ones by the engine's; those that mean nothing here are left to find nothing."""
    networks = {**{name: each for each, name in gate.journal.all("network").items()}, "bridge": gate.network_name}
    tags = gate.journal.all("tag")
    theirs = {
        "name": names.patterns(wanted.get("name", ()), gate.prefix),
        "volume": [gate.own.volume_name(each) or each for each in wanted.get("volume", ())],
        "network": [networks.get(each, each) for each in wanted.get("network", ())],
        "ancestor": [tags.get(gate.own.tag_of(each) or "", each) for each in wanted.get("ancestor", ())],
        **{each: [*map(gate.own.container_id, wanted.get(each, ()))] for each in ("before", "since")},
    }
    return {**wanted, **{name: values for name, values in theirs.items() if values}}
