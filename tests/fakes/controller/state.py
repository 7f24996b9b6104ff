"""The one state of a simulated controller, its lock and its clock."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from .things import Item, Job, Node, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .labels import Label
    from .things import Kind

BUILT_IN = "built-in"
LEFT_ITEMS_STAY = 300.0  # seconds
LINGER = 0.1


class Clock:
    """The time of day, plus what a test has moved it by."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        return time.time() + self._ahead

    def move(self, seconds: float) -> None:
        self._ahead += seconds


class State:
    """All of it is read and changed under `condition`, which is notified of every change."""

    def __init__(self) -> None:
        self.condition = threading.Condition(threading.RLock())
        self.clock = Clock()
        self.nodes: dict[str, Node] = {}
        self.leaving: dict[str, Node] = {}  # deleted while something ran there
        self.built_in = Node(
            BUILT_IN, "the Jenkins controller's built-in node", executors=0, exclusive=False, built_in=True
        )
        self.jobs: dict[str, Job] = {}
        self.items: dict[int, Item] = {}  # those that left as well, for a while
        self.next_item = 1
        self.quiet: str | None = None  # the reason, while it is about to shut down
        self.maintain: Callable[[], None] = lambda: None
        self.later: Callable[[float, Callable[[], None]], None] = lambda _delay, _call: None
        self._settling = False
        self._unsettled = False

    def changed(self) -> None:
        """Something happened: give executors to whoever can have one now, and wake who waits for conditions."""
        self._unsettled = True
        if self._settling:
            return
        self._settling = True
        try:
            while self._unsettled:
                self._unsettled = False
                self.maintain()
        finally:
            self._settling = False
        self.condition.notify_all()

    def move_clock(self, seconds: float) -> None:
        with self.condition:
            self.clock.move(seconds)
            self.changed()

    def queued(self) -> list[Item]:
        """As the API lists them: first those in a quiet period, then the blocked, then those without an executor."""
        order = ["waiting", "blocked", "buildable"]
        left = [item for item in self.items.values() if item.state != "left"]
        return sorted(left, key=lambda item: (order.index(item.state), item.id))

    def item(self, number: int) -> Item | None:
        item = self.items.get(number)
        if item and item.state == "left" and self.clock.now() - item.left_at > LEFT_ITEMS_STAY:
            del self.items[number]
            return None
        return item

    def forget(self, node: Node) -> None:
        """A node that was deleted while it was busy still answers for a moment after its last build."""

        def drop() -> None:
            with self.condition:
                if self.leaving.get(node.name) is node:
                    del self.leaving[node.name]
                    self.changed()

        self.later(LINGER, drop)

    def all_nodes(self) -> Iterator[Node]:
        yield self.built_in
        yield from (node for _, node in sorted(self.nodes.items()))

    def nodes_of(self, label: Label) -> list[Node]:
        return [node for node in self.all_nodes() if label.matches(node.labels)]

    def computer(self, name: str) -> Node | None:
        """What answers below /computer/NAME/."""
        if name in ("(built-in)", "(master)"):
            return self.built_in
        node = self.nodes.get(name) or self.leaving.get(name)
        return None if node is None or node.ghost else node

    def add_job(
        self, name: str, kind: Kind, *, label: str | None = None, steps: list[Step] | None = None, config: str = ""
    ) -> Job:
        """Make a job, and the folders that it is in."""
        folder = name.rpartition("/")[0]
        if folder and folder not in self.jobs:
            self.add_job(folder, "folder")
        job = Job(name, kind, label, steps or [], config)
        self.jobs[name] = job
        return job

    def jobs_in(self, folder: str) -> list[Job]:
        return [job for _, job in sorted(self.jobs.items()) if job.name.rpartition("/")[0] == folder]
