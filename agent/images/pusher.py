"""Pushing: an image under one tag after another, with the registry's login, which nobody else is given.

The engine pushes what a tag of its own means, so it gets the tag for that. If the push fails, the tag means again what
it meant before; a kill in between leaves it moved, to an image that its caller was allowed to push there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import stamina

from agent import references
from agent.builds import Pushed
from agent.errors import EngineError, PushFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.engine import Engine
    from agent.registries import Registries
    from agent.stop import Stop

_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Pusher:
    """Shared by all builds: of two that push the same tag, one waits for the other."""

    engine: Engine
    registries: Registries
    # By tag, as long as somebody pushes it: every build may have a tag of its own.
    _turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def push(
        self, image: str, tags: Sequence[str], stop: Stop, note: Callable[[str], None], done: list[Pushed]
    ) -> None:
        """Push the image under every tag; `done` gets each as soon as the registry has it.

        Raises PushFailed, which says what was pushed before it, and Stopped.
        """
        for tag in tags:
            try:
                async with self._turns.setdefault(tag, asyncio.Lock()):
                    digest = await self._push_one(image, tag, stop, note)
            except PushFailed as error:
                before = f"; pushed before that: {', '.join(each.reference for each in done)}" if done else ""
                raise PushFailed(f"{error}{before}", denied=error.denied) from error
            done.append(Pushed(reference=tag, digest=digest))
            note(f"pushed {tag}@{digest}")

    async def _push_one(self, image: str, tag: str, stop: Stop, note: Callable[[str], None]) -> str:
        stop.check()
        note(f"pushing {tag}")
        before = await self.engine.image(tag)
        await self.engine.tag(image, tag)
        try:
            return await stop.or_else(self._persistently(tag, note))
        except BaseException:
            # Before the build ends, and shielded: a cancelled one, too, leaves the tag as it was.
            await asyncio.shield(self._restore(tag, before.id if before else None))
            raise

    async def _persistently(self, tag: str, note: Callable[[str], None]) -> str:
        """Try again where that may help: a push that was cut off goes on with the layers that are missing."""
        login = await self.registries.login(references.parse(tag).domain)
        async for attempt in stamina.retry_context(on=_may_help, attempts=_TRIES, wait_initial=0.5, wait_max=5.0):
            with attempt:
                if attempt.num > 1:
                    note(f"pushing {tag} again, try {attempt.num} of {_TRIES}")
                return await self.engine.push(tag, note, login)
        raise AssertionError("stamina returns or raises")  # pragma: no cover

    async def _restore(self, tag: str, before: str | None) -> None:
        if before is None:
            await self.engine.untag(tag)
        else:
            await self.engine.tag(before, tag)


def _may_help(error: Exception) -> bool:
    return isinstance(error, EngineError) and not (isinstance(error, PushFailed) and error.denied)
