"""Pushes: an own image has its real name on the engine for as long as one takes."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import TYPE_CHECKING

from agent import references
from agent.errors import Conflict, NotFound
from agent.gate import logins
from agent.gate.names import lines
from agent.gate.own import familiar, new_tag
from agent.gate.policy import Refused
from agent.gate.queries import only
from agent.gate.removal import end_pushes

if TYPE_CHECKING:
    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate

_DIGEST = re.compile(rb'"Digest":"(sha256:[0-9a-f]{64})"')


async def pushed(gate: Gate, exchange: Exchange, name: str) -> None:
    """POST /images/NAME/push, of an own image. Its name is on the engine for as long as that takes."""
    query = only(exchange, "tag", "platform")
    await exchange.nothing()
    tag = new_tag(name, query.get("tag", ""))
    reference = references.parse(tag)
    if not gate.policy.may_push(reference):
        raise Refused("push", f"{reference} is not among the images that may be pushed")
    await gate.bring()
    turn = gate.pushing.setdefault(tag, asyncio.Lock())
    async with turn:  # the end of one takes the name off the engine, also if another one found it there
        await _pushed(gate, exchange, reference)


async def _pushed(gate: Gate, exchange: Exchange, reference: references.Reference) -> None:
    tag = str(reference)
    image = gate.journal.all("tag").get(tag)
    if image is None:
        raise NotFound(f"An image does not exist locally with the tag: {familiar(tag)}")
    there = await gate.upstream.ask("GET", f"/images/{tag}/json")
    if there.ok and there.json()["Id"] != image:
        raise Conflict(
            f"the engine has another image by the name {familiar(tag)}, pulled by somebody else; take another name"
        )
    if not there.ok:
        gate.journal.add("push", tag, image)
        for name_there in (references.push_mark(tag), tag):
            repository, _, word = name_there.rpartition(":")
            named = {"repo": repository, "tag": word}
            (await gate.upstream.ask("POST", f"/images/{image}/tag", named)).done()
    try:
        path, tags = f"/images/{reference.name}/push", {"tag": reference.tag or ""}
        async with gate.upstream.request("POST", path, tags, headers=logins.one(exchange, needed=True)) as reply:
            said = lines(reply.pieces(), "", partial(_see_digest, gate, image, reference.name))
            await exchange.relay(reply.status, said, {"Content-Type": "application/json"})
    finally:
        await end_pushes(gate.upstream, gate.journal, tag)


def _see_digest(gate: Gate, image: str, repository: str, line: bytes) -> bytes:
    """A line of what a push says; the last one tells the digest by which the registry has the image."""
    if (told := _DIGEST.search(line)) is not None:
        gate.own.note_digest(image, f"{repository}@{told[1].decode()}")
    return line
