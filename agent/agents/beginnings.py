"""Noticing at once that a build came to an agent: by the folder that it makes in its workspace, on our own disk.

The controller would tell too, but only when asked; a build that is over before that could be followed by a second one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncinotify import Inotify, Mask

from agent.agents.remote import JOBS

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path


class Beginnings:
    """Watches the workspaces of agents that wait for a build (inotify(7)); lives in the event loop."""

    def __init__(self) -> None:
        self._inotify = Inotify()
        self._events: dict[Path, asyncio.Event] = {}

    def watch(self, workspace: Path, event: asyncio.Event) -> None:
        """Set the event once a build has made its folder there; `begun` then says so."""
        self._events[workspace] = event
        self._inotify.add_watch(workspace, Mask.CREATE | Mask.MOVED_TO | Mask.ONLYDIR)
        if begun(workspace):
            event.set()

    def unwatch(self, workspace: Path) -> None:
        """No build is waited for there any more; the kernel forgets the folder when it is removed."""
        self._events.pop(workspace, None)

    async def turn(self) -> None:
        """Pass on what the kernel tells next."""
        told = await self._inotify.get()
        event = self._events.get(told.watch.path) if told.watch is not None else None
        if event is not None and str(told.name) == JOBS:
            event.set()

    def close(self) -> None:
        """Let go of the kernel's watches."""
        self._inotify.close()


def begun(workspace: Path) -> bool:
    """Whether a build has come to the agent that works there."""
    return (workspace / JOBS).exists()
