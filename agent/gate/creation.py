"""Answers to who makes a container: what it asks for is resolved, made by the engine, and the build's from then on."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from agent.errors import Conflict, InvalidRequest, NotFound
from agent.files import tree
from agent.gate import (
    asked,
    bodies,
    create,
    links,
    names,
    platforms,
    shown,
)
from agent.gate.answers import pass_on
from agent.gate.objects import volume_body
from agent.gate.policy import Refused
from agent.gate.queries import only
from agent.gate.subnets import gateway
from agent.gate.volumes import have_volume
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate

_FREE_PORTS = range(32768, 61000)  # Linux' own range (ip_local_port_range), as Docker's


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
            with _not_of_the_image():
                gate.see_network(network)
        await gate.see_room("volume", plan.mounts.anonymous(resolved["inherited"].get("Volumes") or ()))
        if gone := [name for name, volume in resolved["volumes"].items() if not gate.journal.has("volume", volume)]:
            raise InvalidRequest(f"the volume {gone[0]} was just removed; the engine would make it anew")
        new_volumes = gate.new_volumes & {*resolved["volumes"].values()}
        gate.new_volumes -= new_volumes
        own = {**labels, shown.LABEL_IMAGE: plan.image}
        whole = plan.body(create.Resolved(**resolved, name=name, labels=own, new_volumes=new_volumes))
        named = {"name": gate.prefix + name} if name else {}
        answer = await gate.upstream.ask("POST", "/containers/create", named, whole)
        if answer.ok:
            await _journaled(gate, answer.json()["Id"], name)
            _keep_asked(gate, answer.json()["Id"], asked.text(plan, resolved["containers"]))
            _note_users(gate, answer.json()["Id"], image, body.User)
            gate.restarts.ask(answer.json()["Id"], body.HostConfig.RestartPolicy)
    if answer.status == 409:
        raise taken(gate, name)
    await pass_on(exchange, answer)


def _keep_asked(gate: Gate, container: str, text: str) -> None:
    """For its inspect; forget that of those that are gone, also by themselves."""
    for gone in gate.journal.all("asked").keys() - gate.journal.all("container").keys():
        gate.journal.remove("asked", gone)
    gate.journal.add("asked", container, text)


def _note_users(gate: Gate, container: str, image: dict[str, Any], user: str) -> None:
    """What `user_files` need not look at."""
    gate.untouched[container] = image["Id"]
    if not user and not (image.get("Config") or {}).get("User"):
        gate.userless.add(container)


def taken(gate: Gate, name: str) -> Conflict:
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
    if plan.mounts.has_workspace:
        await gate.see_workspace()
    paths = {each: await _followed(gate, each) for each in plan.folders | plan.sources}
    for folder in filter(None, (paths[each] for each in plan.folders)):
        await _have_folder(gate, folder)
    for source in filter(None, (paths[each] for each in plan.sources)):
        await _see_there(gate, source)
    with _not_of_the_image():
        others = {each: gate.own.container_id(each) for each in plan.containers}
        from_others = [await gate.own.container(each) for each in plan.volumes_from]
    from_image = (image.get("Config") or {}).get("Volumes") or ()
    plan.mounts.see_few(len(from_image) + sum(len(each["Mounts"]) for each in from_others))
    volumes = {name: volume_body(each, gate.policy.limits.memory) for name, each in plan.volumes.items()}
    networks = {each: await _network(gate, each) for each in plan.networks}
    resolved = {
        "image": image["Id"],  # its name could move meanwhile
        "inherited": image.get("Config") or {},
        "containers": others,
        "networks": {name: each["Name"] for name, each in networks.items()},
        "volumes": {name: await have_volume(gate, name, body) for name, body in volumes.items()},
        "network": network["Name"],
        "gateways": [gateway(network), *map(gateway, (each for each in networks.values() if not each["Internal"]))],
        "free_ports": iter(lambda: str(secrets.choice(_FREE_PORTS)), ""),
        "socket": gate.socket,
        "paths": paths,
    }
    return resolved, [network["Id"], *(each["Id"] for each in networks.values())]


@contextmanager
def _not_of_the_image(hint: str = "") -> Iterator[None]:
    """Have what is not there told by InvalidRequest: a 404 is, to clients, of the image, and they pull."""
    try:
        yield
    except NotFound as error:
        raise InvalidRequest(f"{error}{hint}") from error


async def _network(gate: Gate, name: str) -> dict[str, Any]:
    """A network of the build's, which the engine would look for at the start only. Raises InvalidRequest."""
    with _not_of_the_image(": make it before the container"):
        return await gate.own.network(name)


async def _followed(gate: Gate, inside: str) -> str:
    if gate.folder is None or gate.workspace is None:
        return inside
    return await in_thread(links.followed, gate.folder, gate.workspace.path, inside)


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


async def _see_there(gate: Gate, path: str) -> None:
    """Raise InvalidRequest in the engine's words for what is not in the workspace: it would tell a path of the host."""
    if gate.folder is None or gate.workspace is None:
        return
    *folders, name = path.split("/")

    def look() -> None:
        with (
            suppress(NotADirectoryError),  # a link, which the engine follows
            tree.opened(gate.folder or "/") as top,
            tree.below(top, folders) as folder,
        ):
            os.lstat(name, dir_fd=folder)

    try:
        await in_thread(look)
    except FileNotFoundError as error:
        whole = f"{gate.workspace.path}/{path}"
        raise InvalidRequest(
            f'invalid mount config for type "bind": bind source path does not exist: {whole}'
        ) from error


async def _journaled(gate: Gate, container: str, name: str) -> None:
    gate.journal.add("container", container, name)
    facts = (await gate.upstream.ask("GET", f"/containers/{container}/json")).done().json()
    gate.journal.add("container", container, facts["Name"].removeprefix("/").removeprefix(gate.prefix))
    for mount in facts["Mounts"]:
        workspace = gate.workspace.volume if gate.workspace else None
        is_known = mount["Type"] != "volume" or mount["Name"] == workspace or gate.journal.has("volume", mount["Name"])
        if not is_known:
            gate.journal.add("volume", mount["Name"])  # anonymous ones, the image's too
