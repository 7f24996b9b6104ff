"""Agents that could not be had: how long to wait before the next try of the same kind, and when to give up.

Kept in memory alone: a restart of the service tries once more than it would have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.agents.demand import key_of
from agent.builds import Reason, Result
from agent.requests import AgentRequest

if TYPE_CHECKING:
    from agent.agents.demand import Key
    from agent.builds import Build

FIRST_PAUSE = 2.0  # seconds; doubled with each failure in a row
LONGEST_PAUSE = 300.0
# Not the fault of what was asked for: the next try may well succeed, so nobody's item is cancelled for it.
_NOT_ITS_FAULT = {Reason.CONTROLLER, Reason.ENGINE, Reason.INTERNAL}


@dataclass(frozen=True, slots=True)
class Failure:
    """Failures in a row of one kind of agent, those that are its own fault among them, and the last one's message."""

    count: int
    own: int
    at: float
    message: str


@dataclass(frozen=True)
class Failures:
    """By the agents' labels. Times are by any clock that the caller keeps to."""

    _last: dict[Key, Failure] = field(default_factory=dict)

    def finished(self, build: Build, now: float) -> None:
        """Take note of how an agent ended."""
        if not isinstance(build.request, AgentRequest) or build.outcome is None:
            return
        key = key_of(build.request)
        if build.agent is not None and build.agent.begun_at is not None:
            self._last.pop(key, None)
        elif build.outcome.result in {Result.NOT_BUILT, Result.FAILURE}:
            before = self._last.get(key, Failure(0, 0, 0.0, ""))
            own = before.own + (build.outcome.reason not in _NOT_ITS_FAULT)
            self._last[key] = Failure(before.count + 1, own, now, build.outcome.message or "")

    def must_wait(self, key: Key, now: float) -> bool:
        """Whether it is too early for another try."""
        last = self._last.get(key)
        return last is not None and now < last.at + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (last.count - 1))

    def hopeless(self, attempts: int) -> dict[Key, Failure]:
        """What failed so often, through its own fault, that nobody should wait for it."""
        return {key: last for key, last in self._last.items() if last.own >= attempts}

    def forget(self, key: Key) -> None:
        """Begin anew with it."""
        self._last.pop(key, None)
