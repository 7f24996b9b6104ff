"""What the controller last said of its queue and its nodes, looked at again and again, for all who act on it.

One look is two requests, whatever the number of items, nodes and agents here; one while nothing waits and nobody
watches.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from agent.changes import within
from agent.errors import ControllerError, ControllerUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.controller import Computer, Controller, ControllerInfo, QueueItem

_log = structlog.get_logger()
INFO_EVERY = 60.0  # seconds between looks at the controller's version
NODES_EVERY = 2.0  # seconds between looks at the nodes while nothing waits
_LONGEST = 5.0  # seconds between tries of a controller that does not answer
SHARE = 4  # a controller that takes long to answer is asked for at most one part in so many of the time


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """One look. `at` is when it began, by the monotonic clock: what happened later may not be in it."""

    at: float
    session: str
    items: Sequence[QueueItem]
    computers: Mapping[str, Computer]


@dataclass(kw_only=True)
class View:
    """The last sight, if the controller answers; `error` is why it does not, or what it refuses us."""

    controller: Controller
    poll: float  # seconds between two looks
    sight: Sight | None = None
    info: ControllerInfo | None = None
    error: str | None = "The controller was not asked yet."
    since: float = 0.0  # when it began to answer, by the monotonic clock
    _watchers: set[asyncio.Event] = field(default_factory=set)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _info_at: float = 0.0
    _nodes_at: float = 0.0
    _looked_at: float = 0.0
    _failures: int = 0

    def watch(self, event: asyncio.Event) -> None:
        """Set the event after each look, whether it succeeded or not."""
        self._watchers.add(event)

    def unwatch(self, event: asyncio.Event) -> None:
        """Leave the event alone from now on."""
        self._watchers.discard(event)

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    async def pause(self) -> None:
        """Wait until the next look is due, or somebody wants one; after failures longer and longer."""
        last = time.monotonic() - self._looked_at
        await within(self._wake, max(self.poll, (SHARE - 1) * last, min(_LONGEST, self.poll * 2**self._failures)))
        self._wake.clear()

    async def look(self) -> Sight:
        """Ask the controller now. Raises ControllerError; what was seen before is then no longer to be acted on."""
        began = self._looked_at = time.monotonic()
        try:
            info = await self._current_info(began)
            items = await self.controller.queue()
            computers = await self._current_computers(items, began)
        except ControllerError as error:
            self._lost(error)
            raise
        if self.error is not None:
            _log.info("the controller answers", url=self.controller.url, version=info.version)
            self.error, self.since = None, began
        self._failures = 0
        self.sight = Sight(at=began, session=info.session, items=items, computers=computers)
        self._tell()
        return self.sight

    def fault(self, error: ControllerError) -> None:
        """Somebody was refused something else than a look; it is shown until the next one that succeeds."""
        self.error = str(error)

    async def _current_info(self, now: float) -> ControllerInfo:
        """Asked again after each trouble, since a controller that was restarted has another session."""
        if self.info is None or self.error is not None or now > self._info_at + INFO_EVERY:
            self.info = await self.controller.info()
            self._info_at = now
        return self.info

    async def _current_computers(self, items: Sequence[QueueItem], now: float) -> Mapping[str, Computer]:
        sight = self.sight
        if sight is not None and not items and not self._watchers and now < self._nodes_at + NODES_EVERY:
            return sight.computers
        self._nodes_at = now
        return {computer.name: computer for computer in await self.controller.computers()}

    def _lost(self, error: ControllerError) -> None:
        self._failures = min(self._failures + 1, 10)
        if self.error is None:
            kind = "no answer" if isinstance(error, ControllerUnavailable) else "refused"
            _log.warning("the controller cannot be looked at", url=self.controller.url, kind=kind, error=str(error))
        self.error, self.sight = str(error), None
        self._tell()

    def _tell(self) -> None:
        for event in self._watchers:
            event.set()
