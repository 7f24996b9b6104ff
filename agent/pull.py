"""The pull of an image for the service: from its registry or that one's mirror, with the login for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import references

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.engine import Engine
    from agent.registries import Registries


async def pull(engine: Engine, registries: Registries, reference: str, note: Callable[[str], None]) -> None:
    """Have the image on the engine by its full reference; `note` is told of the progress. Raises ImageUnavailable.

    From its registry's mirror if that has one; under a digest it is known by its own registry alone.
    """
    parsed = references.parse(reference)
    mirrored = None if parsed.digest else registries.mirrored(parsed)
    source = references.parse(mirrored or reference)
    await engine.pull(str(source), note, await registries.login(source.domain))
    if mirrored is not None:
        await engine.tag(str(source), reference)
