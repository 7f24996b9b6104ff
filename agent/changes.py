"""Telling those who wait that a build changed."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Changes:
    """One event per build that somebody waits for; lives in the event loop."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    def announce(self, build_id: str) -> None:
        """Wake all who wait for this build."""
        event = self._events.pop(build_id, None)
        if event is not None:
            event.set()

    def next(self, build_id: str) -> asyncio.Event:
        """The event of the next change. Take it before reading the build, so that no change is missed."""
        return self._events.setdefault(build_id, asyncio.Event())


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, at most so long; tells whether it came."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
