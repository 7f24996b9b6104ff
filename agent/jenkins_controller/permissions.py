"""Which permissions we have, found out by doing what they are for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from agent.controller import Permission
from agent.errors import ControllerRefused, NodeExists

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agent.controller import Controller

_NODE = ("Agent/Connect", "Agent/Disconnect", "Agent/Configure", "Agent/Delete")


async def probe(controller: Controller, sees_jobs: Callable[[], Awaitable[bool]], name: str) -> Sequence[Permission]:
    """Try each with a node of that name, which is made and deleted; one of an interrupted probe is taken over.

    Raises ControllerUnavailable, and the node may then be left.
    """
    read = await _tried("Overall/Read", controller.info)
    if not read.ok:
        return [
            read,
            *(_untold(each, "it takes Overall/Read") for each in ("Agent/Create", *_NODE, "Job/Read", "Job/Cancel")),
        ]
    return [read, *await _of_nodes(controller, name), *await _of_jobs(sees_jobs)]


async def _of_nodes(controller: Controller, name: str) -> list[Permission]:
    create = await _tried("Agent/Create", partial(_create, controller, name))
    if not create.ok:
        return [create, *(_untold(each, "it takes a node, and Agent/Create is missing") for each in _NODE)]
    verbs: tuple[Callable[[], Awaitable[object]], ...] = (
        partial(controller.node_secret, name),
        partial(controller.set_offline, name, "Sibling tries its permissions"),
        partial(controller.describe, name, "Sibling tries its permissions; this node may be deleted"),
        partial(controller.delete_node, name),
    )
    return [create, *[await _tried(permission, verb) for permission, verb in zip(_NODE, verbs, strict=True)]]


async def _create(controller: Controller, name: str) -> None:
    try:
        await controller.create_node(name, description="Sibling tries its permissions", labels=(), remote_dir="/")
    except NodeExists:
        return


async def _of_jobs(sees_jobs: Callable[[], Awaitable[bool]]) -> list[Permission]:
    if await sees_jobs():
        job = Permission(name="Job/Read", ok=True, detail="")
    else:
        job = _untold("Job/Read", "no job is to be seen; there may be none")
    return [job, _untold("Job/Cancel", "it takes a build to cancel")]


async def _tried(permission: str, verb: Callable[[], Awaitable[object]]) -> Permission:
    try:
        await verb()
    except ControllerRefused as refused:
        return Permission(name=permission, ok=False, detail=str(refused))
    return Permission(name=permission, ok=True, detail="")


def _untold(permission: str, why: str) -> Permission:
    return Permission(name=permission, ok=None, detail=f"cannot be told: {why}")
