"""Answers about containers that are there."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from agent.errors import InvalidRequest
from agent.gate import asked, bodies, disk, names, packed, pruning, resources, shown, snapshots, strict_json
from agent.gate.answers import hijack, pass_on
from agent.gate.creation import taken
from agent.gate.exchange import PATIENCE
from agent.gate.policy import Refused
from agent.gate.queries import filters, of_build, only
from agent.gate.upstream import Answer
from agent.gate.user_files import see_it_can_start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate

_ENDS = {"stop", "kill"}
_OF_A_MOUNT = re.compile(r"cannot access path|escapes the base directory|resolving symlinks in combined path")
# Options of ps(1) with which what is before the process id is one word each. With some, the engine reads all processes
# of the host, and keeps those lines that have an id of the container's where the title says that ids are.
_PS_BEFORE = "user|uid|ppid|pgid|group|gid"
_PS_AFTER = (
    f"{_PS_BEFORE}|s|stat|state|pcpu|pmem|%cpu|%mem|rss|vsz|tty|tname|ni|pri|nlwp|time|etime|start|stime|comm|cmd|args"
)
_PS_OPTIONS = re.compile(
    r"(|-?(?:ef|eF|aux|axu|ax|x|e|A|f|u|l)|x aux|faux|"
    rf"-?(?:e|ax|A)?o ?(?:(?:{_PS_BEFORE}),)*pid(?:,(?:{_PS_AFTER}))*)(?: ?-?ww?)?"
)
# Of command lines it says 64 KiB otherwise, and keeps seven times as much in its memory. With `f` it reads those of all
# of the host's processes.
_PS_WIDTH, _PS_WIDTH_OF_ALL = "--cols 8192", "--cols 512"


async def inspected(gate: Gate, exchange: Exchange, name: str) -> None:
    """GET /containers/NAME/json."""
    only(exchange)  # no size: see `snapshots`
    found = gate.restarts.shown(await gate.own.container(name))
    known = gate.journal.all("asked").get(found["Id"], "")
    whole = shown.container(found, gate.shown_as)
    await exchange.answer(200, asked.shown(whole, known, gate.journal.all("container")))


async def removed(gate: Gate, exchange: Exchange, name: str) -> None:
    """DELETE /containers/NAME."""
    query = only(exchange, "v", "force", "link")
    if query.get("link") in {"1", "true"}:
        raise Refused("field", "link: links are not removed by themselves here")
    container = gate.own.container_id(name)
    answer = await gate.upstream.ask("DELETE", f"/containers/{container}", {**query, "v": query.get("v", "0")})
    if answer.ok or answer.status == 404:
        gate.journal.remove("container", container)
        gate.journal.remove("asked", container)
        await gate.restarts.forget(container)
        gate.untouched.pop(container, None)
        gate.userless.discard(container)
    await pass_on(exchange, answer)


def acting(method: str, action: str, *keys: str) -> Any:
    """What answers a call without a body about one container, such as its stop."""

    async def act(gate: Gate, exchange: Exchange, name: str) -> None:
        query = only(exchange, *keys)
        container = gate.own.container_id(name)
        await exchange.nothing()
        if action == "unpause":
            disk.see_room(gate)
            await see_it_can_start(gate, container)
        was_kept = action in _ENDS and await gate.restarts.let_go(container)
        answer = await gate.upstream.ask(method, f"/containers/{container}/{action}", query)
        if was_kept and action == "kill" and answer.status == HTTPStatus.CONFLICT:  # it was to be started again
            answer = Answer(HTTPStatus.NO_CONTENT, b"")
        await pass_on(exchange, answer)

    return act


async def started(gate: Gate, exchange: Exchange, name: str) -> None:
    """POST /containers/NAME/start."""
    query = only(exchange, "detachKeys")
    container = gate.own.container_id(name)
    await exchange.nothing()
    disk.see_room(gate)
    await pass_on(exchange, await _start(gate, container, query))


async def restarted(gate: Gate, exchange: Exchange, name: str) -> None:
    """POST /containers/NAME/restart: a stop, a look, a start, since what runs may change its files as it is stopped."""
    query = only(exchange, "signal", "t")
    found = await gate.own.container(name)
    container = found["Id"]
    await exchange.nothing()
    disk.see_room(gate)
    if found["HostConfig"]["AutoRemove"] and found["State"]["Running"]:
        raise Refused("field", "AutoRemove: such a container goes as it stops, so it is not restarted here")
    await gate.restarts.let_go(container)
    answer = await gate.upstream.ask("POST", f"/containers/{container}/stop", query)
    await pass_on(exchange, await _start(gate, container, {}) if answer.ok else answer)


async def _start(gate: Gate, container: str, query: Mapping[str, str]) -> Answer:
    """Look at it, and start it. What the engine says of a mount tells where links lead on the host, and what is there.

    Raises Refused.
    """
    await see_it_can_start(gate, container)
    answer = await gate.upstream.ask("POST", f"/containers/{container}/start", query)
    if answer.ok:
        gate.restarts.keep(container)
    if answer.ok or not _OF_A_MOUNT.search(answer.message()):
        return answer
    message = "the source of a mount is not in the workspace or its volume, or a link in it leads out of there"
    return Answer(HTTPStatus.BAD_REQUEST, strict_json.emit({"message": message}))


async def changes(gate: Gate, exchange: Exchange, name: str) -> None:
    """GET /containers/NAME/changes."""
    only(exchange)
    container = await gate.own.container(name)
    found = strict_json.emit(await snapshots.changes(gate, container) or None)  # null for none, as the engine's own
    await exchange.answer(200, found, {"Content-Type": "application/json"})


async def processes(gate: Gate, exchange: Exchange, name: str) -> None:
    """GET /containers/NAME/top. The engine runs the host's own ps(1) for it, with these options: see `_PS_OPTIONS`."""
    text = only(exchange, "ps_args").get("ps_args", "")
    if (options := _PS_OPTIONS.fullmatch(text)) is None:
        raise Refused("query", f"ps_args {text[:100]!r}: aux, -ef and -o pid,user,args are taken, and such")
    container = gate.own.container_id(name)
    async with gate.topping:
        path, asked_for = f"/containers/{container}/top", options[1] or "-ef"
        width = _PS_WIDTH_OF_ALL if asked_for.startswith("f") else _PS_WIDTH
        answer = await gate.upstream.ask("GET", path, {"ps_args": f"{asked_for} {width}"})
        if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and "option" in answer.message():
            answer = await gate.upstream.ask("GET", path, {"ps_args": asked_for})  # BusyBox's, which is narrow anyway
    await pass_on(exchange, answer)


def streaming(action: str, *keys: str) -> Any:
    """What answers a GET about one container whose answer comes piece by piece, such as its log."""

    async def stream(gate: Gate, exchange: Exchange, name: str) -> None:
        query = only(exchange, *keys)
        container = gate.own.container_id(name)
        async with gate.upstream.request("GET", f"/containers/{container}/{action}", query) as reply:
            kind = {"Content-Type": reply.headers.get("content-type", "application/json")}
            pieces = names.lines(reply.pieces(), gate.prefix) if action == "stats" else reply.pieces()
            await exchange.relay(reply.status, pieces, kind, PATIENCE if action == "export" else None)

    return stream


async def waited(gate: Gate, exchange: Exchange, name: str) -> None:
    """POST /containers/NAME/wait: its head comes at once, its body when the container has ended."""
    query = only(exchange, "condition")
    container = gate.own.container_id(name)
    async with gate.upstream.request("POST", f"/containers/{container}/wait", query) as reply:
        await exchange.relay(reply.status, reply.pieces(), {"Content-Type": "application/json"})


async def attached(gate: Gate, exchange: Exchange, name: str) -> None:
    """POST /containers/NAME/attach."""
    query = only(exchange, "detachKeys", "logs", "stream", "stdin", "stdout", "stderr")
    container = gate.own.container_id(name)
    await exchange.nothing()  # or it would go on as the first of the input
    await hijack(gate.upstream, exchange, f"/containers/{container}/attach", query)


async def updated(gate: Gate, exchange: Exchange, name: str) -> None:
    """POST /containers/NAME/update."""
    only(exchange)
    body = await gate.read(exchange, bodies.UpdateBody)
    policy = body.RestartPolicy if body.RestartPolicy and body.RestartPolicy.Name else None
    found = await gate.own.container(name)
    if policy and found["HostConfig"]["AutoRemove"]:
        raise InvalidRequest("Restart policy cannot be updated because AutoRemove is enabled for the container")
    whole = resources.update(body, gate.policy.limits)
    answer = await gate.upstream.ask("POST", f"/containers/{found['Id']}/update", body=whole)
    if answer.ok and (known := gate.journal.all("asked").get(found["Id"])):
        gate.journal.add("asked", found["Id"], asked.updated(known, body))
    if policy and answer.ok:
        await gate.restarts.change(found["Id"], policy, is_running=found["State"]["Running"])
    await pass_on(exchange, answer)


async def renamed(gate: Gate, exchange: Exchange, name: str) -> None:
    """POST /containers/NAME/rename."""
    new = names.check("container", only(exchange, "name").get("name", "").removeprefix("/"))
    container = gate.own.container_id(name)
    answer = await gate.upstream.ask("POST", f"/containers/{container}/rename", {"name": gate.prefix + new})
    if answer.status == 409:
        raise taken(gate, new)
    if answer.ok:
        gate.journal.add("container", container, new)
    await pass_on(exchange, answer)


async def archived(gate: Gate, exchange: Exchange, name: str) -> None:
    """GET, HEAD and PUT /containers/NAME/archive, which is `docker cp`."""
    method = exchange.request.method
    keys = ("path", "noOverwriteDirNonDir", "copyUIDGID") if method == "PUT" else ("path",)
    query = only(exchange, *keys)
    container = gate.own.container_id(name)
    body = _put(gate, exchange) if method == "PUT" else None
    if body is not None:
        gate.untouched.pop(container, None)
    kind = {"Content-Type": "application/x-tar"} if body is not None else {}
    async with gate.upstream.request(
        method, f"/containers/{container}/archive", query, stream=body, headers=kind
    ) as reply:
        fields = {each: reply.headers[each] for each in ("content-type",) if each in reply.headers}
        if "x-docker-container-path-stat" in reply.headers:
            fields["X-Docker-Container-Path-Stat"] = reply.headers["x-docker-container-path-stat"]
        if method == "HEAD":
            await exchange.answer(reply.status, None, fields)
        elif method == "PUT":
            await exchange.answer(reply.status, (await reply.whole()).content, fields)
        else:
            await exchange.relay(reply.status, reply.pieces(), fields, PATIENCE)


async def _put(gate: Gate, exchange: Exchange) -> AsyncIterator[bytes]:
    """What comes to be put there. Raises Refused once the build has too much, as the engine counts it only later."""
    async for piece in packed.plain(exchange.body()):
        disk.see_room(gate)
        yield piece


async def pruned(gate: Gate, exchange: Exchange) -> None:
    """POST /containers/prune: the build's own that have ended."""
    wanted = filters(only(exchange, "filters").get("filters", ""), pruning.KNOWN)
    await exchange.nothing()
    ended = of_build(gate.build, {"status": ["created", "exited", "dead"]})
    found = (await gate.upstream.ask("GET", "/containers/json", {"all": "1", **ended})).done().json()
    own = [each for each in map(gate.restarts.listed, found) if each["State"] != "restarting"]
    own = [each for each in own if gate.journal.has("container", each["Id"])]
    removed_ids = []
    for container in [each["Id"] for each in own if pruning.meant(wanted, each["Labels"], each["Created"])]:
        if (await gate.upstream.ask("DELETE", f"/containers/{container}")).ok:
            gate.journal.remove("container", container)
            gate.journal.remove("asked", container)
            await gate.restarts.forget(container)
            removed_ids.append(container)
    await exchange.answer(200, {"ContainersDeleted": removed_ids or None, "SpaceReclaimed": 0})
