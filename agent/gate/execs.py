"""Answers about commands that are run in containers; only those that were made through this gate are known."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agent.errors import NotFound
from agent.gate import bodies, strict_json
from agent.gate.answers import hijack, pass_on
from agent.gate.objects import exec_body
from agent.gate.policy import Refused
from agent.gate.queries import only
from agent.gate.user_files import see_readable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate


async def created(gate: Gate, exchange: Exchange, name: str) -> None:
    """POST /containers/NAME/exec."""
    only(exchange)
    container = gate.own.container_id(name)
    body = exec_body(await gate.read(exchange, bodies.ExecBody))
    if gate.asked_execs >= gate.policy.limits.execs:
        raise Refused(
            "limits.execs", f"the build has run {gate.asked_execs} commands in containers, and may run no more"
        )
    is_looked_up = bool(body.get("User")) or container not in gate.userless
    if is_looked_up:
        await see_readable(gate, container)  # here as well, since clients tell nobody why a start was refused
    gate.asked_execs += 1  # before the engine answers: others ask meanwhile
    answer = await gate.upstream.ask("POST", f"/containers/{container}/exec", body=body)
    if answer.ok:
        gate.execs[answer.json()["Id"]] = container if is_looked_up else ""
    await pass_on(exchange, answer)


def _own_exec(gate: Gate, exec_id: str) -> str:
    if exec_id not in gate.execs:
        raise NotFound(f"No such exec instance: {exec_id}")
    return exec_id


async def started(gate: Gate, exchange: Exchange, exec_id: str) -> None:
    """POST /exec/ID/start."""
    only(exchange)
    path = f"/exec/{_own_exec(gate, exec_id)}/start"
    start = await gate.read(exchange, bodies.ExecStartBody)
    body = start.model_dump(exclude_defaults=True)
    if body.get("Detach"):
        async with _user_known(gate, exec_id):
            answer = await gate.upstream.ask("POST", path, body=body)
        await pass_on(exchange, answer)
    else:
        starting = _user_known(gate, exec_id)
        await hijack(gate.upstream, exchange, path, body=strict_json.emit(body), starting=starting)


@asynccontextmanager
async def _user_known(gate: Gate, exec_id: str) -> AsyncIterator[None]:
    """Start it in the block, in which the engine looks up its user if it has one. Raises Refused."""
    if not (container := gate.execs[exec_id]):
        yield
        return
    async with gate.lookups:
        await see_readable(gate, container)
        yield


async def resized(gate: Gate, exchange: Exchange, exec_id: str) -> None:
    """POST /exec/ID/resize."""
    query = only(exchange, "h", "w")
    await exchange.nothing()
    await pass_on(exchange, await gate.upstream.ask("POST", f"/exec/{_own_exec(gate, exec_id)}/resize", query))


async def inspected(gate: Gate, exchange: Exchange, exec_id: str) -> None:
    """GET /exec/ID/json."""
    only(exchange)
    await pass_on(exchange, await gate.upstream.ask("GET", f"/exec/{_own_exec(gate, exec_id)}/json"))
