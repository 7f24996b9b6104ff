"""Asking a build to stop: an event, never a cancelled task, since a second cancel would pierce a shielded clean-up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from agent.builds import Reason

T = TypeVar("T")


class Stopped(Exception):
    """The build was asked to stop while it waited for something."""


class Stop:
    """One build's wish to end. The first reason counts; asking again changes nothing."""

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._asked = asyncio.Event()
        self._told: list[asyncio.Event] = []

    def tell(self, event: asyncio.Event) -> None:
        """Set this event too once somebody asks, or now if somebody has."""
        self._told.append(event)
        if self.asked():
            event.set()

    def ask(self, reason: Reason) -> None:
        """Ask for the end, because of `reason`."""
        if self.reason is None:
            self.reason = reason
            self._asked.set()
            for event in self._told:
                event.set()

    def asked(self) -> bool:
        """Whether somebody asked; may be called from any thread."""
        return self.reason is not None

    def check(self) -> None:
        """Raise Stopped if somebody asked."""
        if self.asked():
            raise Stopped

    async def wait(self) -> None:
        """Wait until somebody asks."""
        await self._asked.wait()

    async def or_else(self, work: Coroutine[Any, Any, T]) -> T:
        """The value of `work`, or Stopped as soon as somebody asks. Only for work that leaves nothing to clean up."""
        task = asyncio.create_task(work)
        asked = asyncio.create_task(self.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Stopped
            return task.result()
        finally:
            task.cancel()
            asked.cancel()
