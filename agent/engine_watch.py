"""Whether the engine answers, asked again and again so that nobody else has to wait for it to find out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.engine import Engine, EngineInfo

PERIOD = 5.0  # seconds


class EngineWatch:
    """What the engine last said of itself. `error` is why it did not answer, or None if it did."""

    def __init__(self, engine: Engine, info: EngineInfo, on_return: Callable[[], None]) -> None:
        self._engine = engine
        self._on_return = on_return
        self.info = info
        self.error: str | None = None

    @property
    def up(self) -> bool:
        """Whether it answered at the last look."""
        return self.error is None

    async def turn(self) -> None:
        """Wait a while, then look."""
        await asyncio.sleep(PERIOD)
        await self.look()

    async def look(self) -> None:
        """Ask it once."""
        was_up = self.up
        try:
            self.info = await self._engine.info()
            self.error = None
        except EngineError as error:
            self.error = str(error)
        if self.up and not was_up:
            self._on_return()
