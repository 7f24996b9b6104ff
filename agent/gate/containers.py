"""Answers about containers."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from agent.errors import Conflict, InvalidRequest, NotFound
from agent.files import tree
from agent.gate import (
    bodies,
    create,
    disk,
    names,
    objects,
    packed,
    platforms,
    pruning,
    resources,
    shown,
    snapshots,
    strict_json,
)
from agent.gate.answers import hijack, pass_on
from agent.gate.exchange import PATIENCE
from agent.gate.policy import Refused
from agent.gate.queries import filters, number, of_build, only
from agent.gate.subnets import gateway
from agent.gate.upstream import Answer
from agent.gate.user_files import see_it_can_start
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate

_FREE_PORTS = range(32768, 61000)  # Linux' own range (ip_local_port_range), as Docker's
_BEGINS = {"start", "restart"}
_STARTS = {*_BEGINS, "unpause"}
_ENDS = {"stop", "kill", "restart"}
_UP = {"running", "paused", "restarting"}  # what a list has that is not of all
_STATES = {*_UP, "created", "removing", "exited", "dead"}
_FALSE = {"", "0", "no", "false", "none"}  # as the engine reads a query (moby/moby, httputils.BoolValue)
# Options of ps(1) with which what is before the process id is one word each. With some, the engine reads all processes
# of the host, and keeps those lines that have an id of the container's where the title says that ids are.
_PS_BEFORE = "user|uid|ppid|pgid|group|gid"
_PS_AFTER = (
    f"{_PS_BEFORE}|s|stat|state|pcpu|pmem|%cpu|%mem|rss|vsz|tty|tname|ni|pri|nlwp|time|etime|start|stime|comm|cmd|args"
)
_PS_OPTIONS = re.compile(
    rf"|-?(?:ef|eF|aux|axu|ax|x|e|A|f|u|l)|-?(?:e|ax|A)?o ?(?:(?:{_PS_BEFORE}),)*pid(?:,(?:{_PS_AFTER}))*"
)
_KEPT_FILTERS = {
    "status",
    "exited",
    "name",
    "id",
    "label",
    "ancestor",
    "before",
    "since",
    "volume",
    "network",
    "health",
    "expose",
    "publish",
}


async def listed(gate: Gate, exchange: Exchange) -> None:
    """GET /containers/json."""
    query = only(exchange, "all", "limit", "filters")  # no size: see `snapshots`
    asked = _asked(gate, filters(query.pop("filters", ""), _KEPT_FILTERS))
    limit = number("limit", query.pop("limit", ""))  # counted here: the engine would count others' too
    is_all = limit > 0 or query.get("all", "0") not in _FALSE
    states = {*asked.get("status", ())} or (set() if is_all else _UP)
    if gate.restarts.keep_some and states <= _STATES:  # of those that wait the engine knows only that they ended
        is_all = True
        asked.pop("status", None)
    query = {"all": str(int(is_all)), **of_build(gate.build, asked)}
    found = (await gate.upstream.ask("GET", "/containers/json", query)).done().json()
    own = [each for each in map(gate.restarts.listed, found) if gate.journal.has("container", each["Id"])]
    if "status" not in asked and states:
        own = [each for each in own if each["State"] in states]
    own = [shown.listed(each, gate.shown_as) for each in own]
    await exchange.answer(200, own[:limit] if limit > 0 else own)


def _asked(gate: Gate, asked: dict[str, list[str]]) -> dict[str, list[str]]:
    """Filters by the build's names as ones by the engine's; those that mean nothing here are left to find nothing."""
    networks = {**{name: each for each, name in gate.journal.all("network").items()}, "bridge": gate.network_name}
    tags = gate.journal.all("tag")
    theirs = {
        "name": names.patterns(asked.get("name", ()), gate.prefix),
        "volume": [gate.own.volume_name(each) or each for each in asked.get("volume", ())],
        "network": [networks.get(each, each) for each in asked.get("network", ())],
        "ancestor": [tags.get(gate.own.tag_of(each) or "", each) for each in asked.get("ancestor", ())],
        **{each: [*map(gate.own.container_id, asked.get(each, ()))] for each in ("before", "since")},
    }
    return {**asked, **{name: values for name, values in theirs.items() if values}}


async def created(gate: Gate, exchange: Exchange) -> None:
    """POST /containers/create."""
    query = only(exchange, "name", "platform")
    name = query.get("name", "").removeprefix("/")
    if name:
        names.check("container", name)
    body = await gate.read(exchange, bodies.ContainerBody)
    plan = create.plan(body, gate.policy, gate.workspace)
    image = await gate.own.image(plan.image)
    _see_platform(plan.image, image, query.get("platform", ""))
    resolved, networks = await _resolved(gate, plan, image)
    async with gate.making("container") as labels:
        for network in networks:
            gate.see_network(network)
        await gate.see_room("volume", plan.mounts.anonymous(resolved["inherited"].get("Volumes") or ()))
        new_volumes = gate.new_volumes & {*resolved["volumes"].values()}
        gate.new_volumes -= new_volumes
        own = {**labels, shown.LABEL_IMAGE: plan.image}
        whole = plan.body(create.Resolved(**resolved, name=name, labels=own, new_volumes=new_volumes))
        named = {"name": gate.prefix + name} if name else {}
        answer = await gate.upstream.ask("POST", "/containers/create", named, whole)
        if answer.ok:
            await _keep(gate, answer.json()["Id"], name)
            _note_users(gate, answer.json()["Id"], image, body.User)
            gate.restarts.ask(answer.json()["Id"], body.HostConfig.RestartPolicy)
    if answer.status == 409:
        raise _taken(gate, name)
    await pass_on(exchange, answer)


def _note_users(gate: Gate, container: str, image: dict[str, Any], user: str) -> None:
    """What `user_files` need not look at."""
    if not gate.journal.has("image", image["Id"]):
        gate.untouched.add(container)
    if not user and not (image.get("Config") or {}).get("User"):
        gate.userless.add(container)


def _taken(gate: Gate, name: str) -> Conflict:
    """In the engine's own words, since clients look for them."""
    holder = gate.own.known_id(name) or "that is being removed"
    return Conflict(
        f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


def _see_platform(name: str, image: dict[str, Any], platform: str) -> None:
    """Raise NotFound in the engine's own words if the image is of another platform."""
    there = f"{image.get('Os')}/{image.get('Architecture')}"
    if not platforms.fits(platform, there):
        raise NotFound(
            f"image with reference {name} was found but its platform ({there}) "
            f"does not match the specified platform ({platform})"
        )


async def _resolved(gate: Gate, plan: create.Plan, image: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The names in the request as the engine's own, and ids of networks; makes volumes that are named anew."""
    network = await gate.network()
    if plan.own_socket and gate.socket is None:
        raise Refused("bind", "this gate's socket cannot be mounted")
    for folder in plan.folders:
        await _have_folder(gate, folder)
    networks = {each: await gate.own.network(each) for each in plan.networks}
    resolved = {
        "image": image["Id"],  # its name could move meanwhile
        "inherited": image.get("Config") or {},
        "containers": {each: gate.own.container_id(each) for each in plan.containers},
        "networks": {name: each["Name"] for name, each in networks.items()},
        "volumes": {
            each: await have_volume(gate, each, {"Labels": dict(labels)}) for each, labels in plan.volumes.items()
        },
        "network": network["Name"],
        "gateways": [gateway(network), *map(gateway, (each for each in networks.values() if not each["Internal"]))],
        "free_ports": iter(lambda: str(secrets.choice(_FREE_PORTS)), ""),
        "socket": gate.socket,
    }
    return resolved, [network["Id"], *(each["Id"] for each in networks.values())]


async def _have_folder(gate: Gate, folder: str) -> None:
    """Make a folder of the workspace that is not there, as the engine does for binds.

    Links are not followed, and nothing is said of where they lead: the engine finds out, within the volume.
    """
    if gate.folder is None:
        return

    def make() -> None:
        with (
            suppress(NotADirectoryError),  # nor is a link one
            tree.opened(gate.folder or "/") as top,
            tree.below(top, folder.split("/"), make=0o755),
        ):
            pass

    try:
        await in_thread(make)
    except OSError as error:
        raise InvalidRequest(f"the folder {folder!r} of the workspace could not be made: {error.strerror}") from error


async def have_volume(gate: Gate, name: str, body: dict[str, Any] | None = None) -> str:
    """The volume of that name, made if the build has none. Raises Conflict if it is another's."""
    if (own := gate.own.volume_name(name)) is not None:
        return own
    async with gate.making("volume") as labels:
        memory = _see_memory(gate, objects.in_memory((body or {}).get("DriverOpts", {})))
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


async def _keep(gate: Gate, container: str, name: str) -> None:
    gate.journal.add("container", container, name)
    facts = (await gate.upstream.ask("GET", f"/containers/{container}/json")).done().json()
    gate.journal.add("container", container, facts["Name"].removeprefix("/").removeprefix(gate.prefix))
    for mount in facts["Mounts"]:
        workspace = gate.workspace.volume if gate.workspace else None
        is_known = mount["Type"] != "volume" or mount["Name"] == workspace or gate.journal.has("volume", mount["Name"])
        if not is_known:
            gate.journal.add("volume", mount["Name"])  # anonymous ones, the image's too


async def inspected(gate: Gate, exchange: Exchange, name: str) -> None:
    """GET /containers/NAME/json."""
    only(exchange)  # no size: see `snapshots`
    found = gate.restarts.shown(await gate.own.container(name))
    await exchange.answer(200, shown.container(found, gate.shown_as))


async def removed(gate: Gate, exchange: Exchange, name: str) -> None:
    """DELETE /containers/NAME."""
    query = only(exchange, "v", "force", "link")
    if query.get("link") in {"1", "true"}:
        raise Refused("field", "link: links are not removed by themselves here")
    container = gate.own.container_id(name)
    answer = await gate.upstream.ask("DELETE", f"/containers/{container}", {**query, "v": query.get("v", "0")})
    if answer.ok or answer.status == 404:
        gate.journal.remove("container", container)
        await gate.restarts.forget(container)
        gate.untouched.discard(container)
        gate.userless.discard(container)
    await pass_on(exchange, answer)


def acting(method: str, action: str, *keys: str) -> Any:
    """What answers a call without a body about one container, such as its stop."""

    async def act(gate: Gate, exchange: Exchange, name: str) -> None:
        query = only(exchange, *keys)
        container = gate.own.container_id(name)
        await exchange.nothing()
        if action in _STARTS:
            disk.see_room(gate)
            await see_it_can_start(gate, container)
        was_kept = action in _ENDS and await gate.restarts.let_go(container)
        answer = await gate.upstream.ask(method, f"/containers/{container}/{action}", query)
        if action in _BEGINS and answer.ok:
            gate.restarts.keep(container)
        if was_kept and action == "kill" and answer.status == HTTPStatus.CONFLICT:  # it was to be started again
            answer = Answer(HTTPStatus.NO_CONTENT, b"")
        await pass_on(exchange, answer)

    return act


async def changes(gate: Gate, exchange: Exchange, name: str) -> None:
    """GET /containers/NAME/changes."""
    only(exchange)
    container = await gate.own.container(name)
    found = strict_json.emit(await snapshots.changes(gate, container) or None)  # null for none, as the engine's own
    await exchange.answer(200, found, {"Content-Type": "application/json"})


async def processes(gate: Gate, exchange: Exchange, name: str) -> None:
    """GET /containers/NAME/top. The engine runs the host's own ps(1) for it, with these options: see `_PS_OPTIONS`."""
    query = only(exchange, "ps_args")
    if not _PS_OPTIONS.fullmatch(query.get("ps_args", "")):
        raise Refused("query", f"ps_args {query['ps_args'][:100]!r}: aux, -ef and -o pid,user,args are taken, and such")
    container = gate.own.container_id(name)
    await pass_on(exchange, await gate.upstream.ask("GET", f"/containers/{container}/top", query))


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
    if policy and answer.ok:
        await gate.restarts.change(found["Id"], policy, is_running=found["State"]["Running"])
    await pass_on(exchange, answer)


async def renamed(gate: Gate, exchange: Exchange, name: str) -> None:
    """POST /containers/NAME/rename."""
    new = names.check("container", only(exchange, "name").get("name", "").removeprefix("/"))
    container = gate.own.container_id(name)
    answer = await gate.upstream.ask("POST", f"/containers/{container}/rename", {"name": gate.prefix + new})
    if answer.status == 409:
        raise _taken(gate, new)
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
        gate.untouched.discard(container)
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
    asked = filters(only(exchange, "filters").get("filters", ""), pruning.KNOWN)
    await exchange.nothing()
    ended = of_build(gate.build, {"status": ["created", "exited", "dead"]})
    found = (await gate.upstream.ask("GET", "/containers/json", {"all": "1", **ended})).done().json()
    own = [each for each in map(gate.restarts.listed, found) if each["State"] != "restarting"]
    own = [each for each in own if gate.journal.has("container", each["Id"])]
    removed_ids = []
    for container in [each["Id"] for each in own if pruning.meant(asked, each["Labels"], each["Created"])]:
        if (await gate.upstream.ask("DELETE", f"/containers/{container}")).ok:
            gate.journal.remove("container", container)
            await gate.restarts.forget(container)
            removed_ids.append(container)
    await exchange.answer(200, {"ContainersDeleted": removed_ids or None, "SpaceReclaimed": 0})
