"""What is known of one agent, kept in the store as far as that can be written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.builds import AgentRecord

if TYPE_CHECKING:
    from agent.builds import BuildState
    from agent.work import Held


class Record:
    """`now` is what we know; `write` brings it to the store, and is repeated when that was away."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self.now = held.build.agent or AgentRecord()
        self._state: BuildState | None = None
        self._written = True

    async def change(self, state: BuildState | None = None, **values: Any) -> None:
        """Know these fields of the record, and this state, from now on. Raises StoreUnavailable, StaleClaim."""
        self.now = replace(self.now, **values)
        self._state, self._written = state or self._state, False
        await self.write()

    async def write(self) -> None:
        """Write what is not written yet. Raises as `change`."""
        if not self._written:
            await self._held.advance(state=self._state, agent=self.now, phases=self._held.phases.seconds)
            self._state, self._written = None, True
