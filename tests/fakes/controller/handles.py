"""What tests do with a simulated controller directly, and wait for."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

from . import why as reasons
from .hand_agent import HandAgent
from .things import Cause, Node, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .core import Core
    from .faults import Request
    from .things import Build, Item, Job

WAIT = 30.0  # seconds that anything may take


class Handles:
    """May be used from any thread. What it returns is live: read several things of it under `lock`."""

    core: Core

    @property
    def lock(self) -> threading.Condition:
        """Notified of every change. Make no request to the simulator while you hold it."""
        return self.core.state.condition

    # making

    def add_node(
        self,
        name: str,
        labels: str = "",
        *,
        remote_fs: str = "/home/jenkins/agent",
        executors: int = 1,
        exclusive: bool = True,
        description: str = "",
    ) -> Node:
        node = Node(name, description, remote_fs, executors, exclusive, labels)
        with self.lock:
            self.core.add_node(node)
        return node

    def add_freestyle(
        self,
        name: str,
        label: str | None = None,
        shell: str | Step | Sequence[str | Step] = (),
        *,
        concurrent: bool = False,
    ) -> Job:
        """`name` may be in folders. Without a step the job only makes its workspace."""
        with self.lock:
            job = self.core.state.add_job(name, "freestyle", label=label, steps=_steps(shell))
            job.concurrent = concurrent
        return job

    def add_pipeline(self, name: str, label: str | None = None, shells: str | Step | Sequence[str | Step] = ()) -> Job:
        """One node block that runs these steps; without any nothing happens on the agent."""
        with self.lock:
            return self.core.state.add_job(name, "pipeline", label=label, steps=_steps(shells))

    def build(self, name: str, *, parameters: dict[str, str] | None = None, delay: float = 0.0) -> int:
        """Have a job built. Returns the id of its queue item."""
        with self.lock:
            item, _ = self.core.queue.schedule(
                self.core.state.jobs[name], user="admin", parameters=parameters, delay=delay
            )
            return item.id

    def hand_agent(self, node: str, *, automatic: bool = False) -> HandAgent:
        """Bring a node online without a process; the test ends its steps, or they end by themselves."""
        agent = HandAgent(self.core, self.core.state.nodes[node], automatic=automatic)
        agent.connect()
        return agent

    # changing

    def cancel(self, item_id: int) -> None:
        with self.lock:
            item = self.core.state.items[item_id]
            if item.state != "left":
                self.core.runs.cancel(item)

    def stop_build(self, build: Build, user: str = "admin") -> None:
        with self.lock:
            self.core.runs.stop(build, user)

    def mark(self, node: str, reason: str = "", user: str = "admin") -> None:
        """Set a node temporarily offline."""
        with self.lock:
            now = self.core.state.clock.now()
            self.core.state.nodes[node].mark = Cause(
                reason, now, "hudson.slaves.OfflineCause$UserCause", marked_by=user
            )
            self.core.state.changed()

    def unmark(self, node: str) -> None:
        with self.lock:
            self.core.state.nodes[node].mark = None
            self.core.state.changed()

    def delete_node(self, node: str) -> None:
        with self.lock:
            self.core.runs.node_removed(self.core.state.nodes[node])

    def delete_job(self, name: str) -> None:
        with self.lock:
            self.core.delete_job(self.core.state.jobs[name])

    def quiet_down(self, reason: str | None = "") -> None:
        """Be about to shut down; None takes that back."""
        with self.lock:
            self.core.state.quiet = reason
            self.core.state.changed()

    def move_clock(self, seconds: float) -> None:
        self.core.state.move_clock(seconds)

    # reading

    @property
    def nodes(self) -> dict[str, Node]:
        with self.lock:
            return dict(self.core.state.nodes)

    @property
    def builds(self) -> list[Build]:
        """All, in the order in which they were asked for."""
        with self.lock:
            jobs = list(self.core.state.jobs.values())
            return sorted((build for job in jobs for build in job.builds.values()), key=lambda build: build.queue_id)

    @property
    def queue(self) -> list[Item]:
        with self.lock:
            return self.core.state.queued()

    def why(self, item_id: int) -> str | None:
        with self.lock:
            return reasons.why(self.core.state, self.core.state.items[item_id], english=True)

    @property
    def requests(self) -> list[Request]:
        """All that arrived, oldest first; agents' handshakes are "CONNECT /wsagents/NODE"."""
        with self.lock:
            return list(self.core.requests)

    def forget_requests(self) -> None:
        with self.lock:
            self.core.requests.clear()

    def count(self, match: str) -> int:
        """How many requests had a match of this in their "METHOD /path?query"."""
        with self.lock:
            return sum(bool(re.search(match, request.line)) for request in self.core.requests)

    def jar_fetches(self, node: str) -> list[str]:
        """The jars that a node's agents fetched, by SHA-256."""
        with self.lock:
            return [sha256 for name, sha256 in self.core.jar_fetches if name == node]

    # waiting

    def wait(self, condition: Callable[[], Any], timeout: float = WAIT, what: str = "") -> Any:
        """Wait until `condition()` is true, looked at after every change. Returns what it returned."""
        with self.lock:
            value = self.lock.wait_for(condition, timeout)
            if not value:
                raise TimeoutError(f"{what or 'The condition'} did not come true in {timeout} s.\n{self.story()}")
            return value

    def pause(self, seconds: float) -> None:
        """Let time pass, where it is time that is simulated."""
        threading.Event().wait(seconds)

    def wait_online(self, node: str, timeout: float = WAIT) -> Node:
        return self.wait(lambda: (found := self.core.state.nodes.get(node)) and found.agent and found, timeout, node)

    def wait_offline(self, node: str, timeout: float = WAIT) -> None:
        nodes = self.core.state.nodes
        self.wait(lambda: node not in nodes or nodes[node].agent is None, timeout, f"{node} without an agent")

    def wait_gone(self, node: str, timeout: float = WAIT) -> None:
        self.wait(lambda: node not in self.core.state.nodes, timeout, f"{node} deleted")

    def wait_started(self, item_id: int, timeout: float = WAIT) -> Build:
        """Until the build that was item `item_id` has a node."""
        return self.wait(
            lambda: self._run(item_id, lambda run: run.node is not None), timeout, f"item {item_id} started"
        )

    def wait_ended(self, item_id: int, timeout: float = WAIT) -> Build:
        return self.wait(lambda: self._run(item_id, lambda run: not run.building), timeout, f"item {item_id} ended")

    def wait_output(self, item_id: int, text: str, timeout: float = WAIT) -> Build:
        return self.wait(lambda: self._run(item_id, lambda run: text in run.console), timeout, f"{text!r} in the log")

    def wait_request(self, match: str, times: int = 1, timeout: float = WAIT) -> None:
        self.wait(lambda: self.count(match) >= times, timeout, f"{times} of {match}")

    def _run(self, item_id: int, fits: Callable[[Build], bool]) -> Build | None:
        found = next((build for build in self.builds if build.queue_id == item_id), None)
        return found if found and fits(found) else None

    def story(self) -> str:
        """What there is, for the message of a failed test."""
        with self.lock:
            lines = [f"node {node.name}: {_status(node)}" for node in self.core.state.nodes.values()]
            lines += [f"item {item.id} {item.job.name}: {self.why(item.id)}" for item in self.core.state.queued()]
            lines += [f"build {build.name} on {build.node}: {build.result}\n{build.console}" for build in self.builds]
            lines += [f"{request.line} {request.user} {request.status}" for request in self.core.requests[-20:]]
        return "\n".join(lines)


def _status(node: Node) -> str:
    agent = "agent" if node.agent else "no agent"
    return f"{agent}, {len(node.running)} running" + (f", marked: {node.mark.reason}" if node.mark else "")


def _steps(given: str | Step | Sequence[str | Step]) -> list[Step]:
    listed = [given] if isinstance(given, str | Step) else given
    return [Step(step) if isinstance(step, str) else step for step in listed]
