"""The queue: what comes in, what is blocked, who gets which node. Looked at anew on every event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .things import Item
from .why import why

if TYPE_CHECKING:
    from .runs import Runs
    from .state import State
    from .things import Job, Node


TOLD_AFTER = 15.0  # seconds


class Queue:
    """All under the state's lock."""

    def __init__(self, state: State, runs: Runs) -> None:
        self._state = state
        self._runs = runs
        state.maintain = self.maintain

    def schedule(
        self, job: Job, *, user: str, parameters: dict[str, str] | None = None, delay: float = 0.0
    ) -> tuple[Item, bool]:
        """Queue a build; False if the same waits already, which then has one more cause."""
        state = self._state
        wanted = dict(parameters or {})
        for item in state.queued():
            if item.job is job and not item.is_part and item.parameters == wanted:
                item.causes.append(user)
                return item, False
        now = state.clock.now()
        item = Item(state.next_item, job, job.label, now, [user], wanted, wait_until=now + delay)
        state.items[item.id] = item
        state.next_item += 1
        if delay:
            self._wake_after(delay)
        state.changed()
        return item, True

    def rearm(self) -> None:
        """After a start: wait again for the ends of quiet periods."""
        now = self._state.clock.now()
        for item in self._state.queued():
            if item.state == "waiting":
                self._wake_after(max(0.0, item.wait_until - now))

    def _wake_after(self, seconds: float) -> None:
        def wake() -> None:
            with self._state.condition:
                self._state.changed()

        self._state.later(seconds + 0.001, wake)

    def maintain(self) -> None:
        for item in self._state.queued():
            if item.state == "waiting" and item.wait_until <= self._state.clock.now():
                item.state = "blocked"
            if item.state == "blocked" and not self._is_blocked(item):
                item.state, item.buildable_since = "buildable", self._state.clock.now()
            if item.state == "buildable":
                self._try_to_start(item)
            if item.is_part and item.state == "buildable":
                self._tell(item)

    def _tell(self, item: Item) -> None:
        """A pipeline that waits for long says so in its log."""
        waited = self._state.clock.now() - item.since
        if item.build and not item.told and waited >= TOLD_AFTER:
            item.told = True
            item.build.write(f"Still waiting to schedule task\n{why(self._state, item, english=True)}\n")

    def _is_blocked(self, item: Item) -> bool:
        """One build of a job at a time, unless it allows more; pipelines do."""
        job = item.job
        if job.concurrent or job.kind == "pipeline":
            return False
        ahead = any(other.job is job and other.state == "buildable" for other in self._state.queued())
        return ahead or any(build.building for build in job.builds.values())

    def _try_to_start(self, item: Item) -> None:
        if self._state.quiet is not None and not item.resumes:
            return
        if item.job.kind == "pipeline" and not item.is_part:
            self._runs.start_pipeline(item)
            return
        node = self._free_node(item)
        if node:
            self._runs.begin(item, node)

    def _free_node(self, item: Item) -> Node | None:
        nodes = [node for node in self._state.all_nodes() if node.idle_executors and node.takes(item.label)]
        return min(nodes, key=lambda node: len(node.running), default=None)
