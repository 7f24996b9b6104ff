"""Pulls: by their name for all who may use the image, or by their digest for the build alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent import references
from agent.gate import keeping, logins, platforms
from agent.gate.answers import pass_on
from agent.gate.names import lines
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agent.gate.exchange import Exchange
    from agent.gate.gate import Gate

_BUILDKIT = "moby/buildkit"
# It falls back to a container of its own without a word if the daemon does not build.
_INSTEAD_OF_BUILDKIT = (
    "; buildx builds here by its driver `docker`, if the gate has a builder, and that started: see its log"
)


async def pulled(gate: Gate, exchange: Exchange, query: Mapping[str, str]) -> None:
    """POST /images/create with `fromImage`."""
    given, tag = query.get("fromImage", ""), query.get("tag", "")
    reference = references.parse(f"{given}{'@' if ':' in tag else ':'}{tag}" if tag else given)
    see_allowed(gate, reference)
    await exchange.nothing()
    asked = {"fromImage": reference.name, "tag": reference.digest or reference.tag or "latest"}
    if platform := query.get("platform"):
        await _see_own_platform(gate, platform)
        asked["platform"] = platform
    if reference.digest is None and gate.policy.may_push(reference):
        await _for_itself(gate, exchange, reference, asked)
        return
    async with gate.upstream.request("POST", "/images/create", asked, headers=logins.one(exchange)) as reply:
        await exchange.relay(reply.status, reply.pieces(), {"Content-Type": "application/json"})
    gate.own.used.add(str(reference))
    if reference.digest is not None:  # else it goes with the build that pulled it for itself
        image = await gate.upstream.ask("GET", f"/images/{reference}/json")
        if image.ok:
            await keeping.have(gate, image.json()["Id"])


def see_allowed(gate: Gate, reference: references.Reference) -> None:
    """Raise Refused if the image may not be pulled."""
    if reference.domain == references.PRIVATE or not gate.policy.may_pull(reference):
        hint = _INSTEAD_OF_BUILDKIT if reference.path == _BUILDKIT else ""
        raise Refused("pull", f"{reference} is not among the images that may be pulled{hint}")


async def _see_own_platform(gate: Gate, platform: str) -> None:
    """A name has one image here: that of another platform would take it from all who use it. Raises Refused."""
    known = (await gate.upstream.ask("GET", "/version")).done().json()
    there = f"{known['Os']}/{known['Arch']}"
    if not platforms.fits(platform, there):
        raise Refused("pull", f"platform {platform}: the engine runs {there}")


async def _for_itself(
    gate: Gate, exchange: Exchange, reference: references.Reference, asked: Mapping[str, str]
) -> None:
    """Pull what the build may push by its digest, and give it the name as one of the build's own.

    A push needs the name to be free on the engine, and who pulls an image to build on its layers pushes to its name.
    """
    headers = logins.one(exchange, needed=True)
    async with gate.upstream.request("GET", f"/distribution/{reference}/json", headers=headers) as reply:
        known = await reply.whole()
    if not known.ok:
        await pass_on(exchange, known)
        return
    digest = str(known.json()["Descriptor"]["digest"])
    by_digest = {**asked, "tag": digest}
    name = f"{reference.name}@{digest}"
    if not (await gate.upstream.ask("GET", f"/images/{name}/json")).ok:
        gate.journal.add("pull", name)

    async def named(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in lines(pieces, "", lambda line: _by_tag(line, digest, asked["tag"])):
            yield piece
        image = await gate.upstream.ask("GET", f"/images/{name}/json")
        if image.ok:
            await keeping.have(gate, image.json()["Id"])
            keeping.name(gate, str(reference), image.json()["Id"])
            gate.own.note_digest(image.json()["Id"], name)

    async with gate.upstream.request("POST", "/images/create", by_digest, headers=headers) as reply:
        pieces = named(reply.pieces()) if reply.status == 200 else reply.pieces()
        await exchange.relay(reply.status, pieces, {"Content-Type": "application/json"})


def _by_tag(line: bytes, digest: str, tag: str) -> bytes:
    """A line of what a pull tells, as if it were one by the tag; another line still tells the digest."""
    told = re.sub(rb'"id":"[^"]*@%b"' % digest.encode(), f'"id":"{tag}"'.encode(), line)
    return told.replace(f"@{digest}".encode(), f":{tag}".encode())
