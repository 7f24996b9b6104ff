"""An agent without a process: a node is online, and the test says how its steps end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .core import Core
    from .things import Node, StepRun


class HandAgent:
    """`automatic`: every step ends at once, well; otherwise it runs until `finish`, or until it is aborted."""

    def __init__(self, core: Core, node: Node, *, automatic: bool) -> None:
        self._core = core
        self._automatic = automatic
        self.node = node
        self.steps: list[StepRun] = []  # under way
        self.aborted: list[str] = []

    def connect(self) -> None:
        """Also after it was lost; steps of before are still there, as on an agent that went on alone."""
        with self._core.state.condition:
            if self.node.agent is None:
                self._core.runs.agent_online(self.node, self, {step.id for step in self.steps})

    def lose(self) -> None:
        """The connection breaks."""
        with self._core.state.condition:
            self._core.runs.agent_lost(self.node, self)

    def say(self, output: str) -> None:
        """Output of the oldest step under way."""
        with self._core.state.condition:
            self._core.runs.output(self.steps[0].id, output.encode())

    def finish(self, code: int = 0) -> None:
        """End the oldest step under way."""
        with self._core.state.condition:
            self._core.runs.ended(self.steps.pop(0).id, code)

    # what the controller asks of it

    def begin(self, run: StepRun) -> None:
        if self._automatic:
            self._core.runs.ended(run.id, 0)
        else:
            self.steps.append(run)

    def resume(self, run_id: str, offset: int) -> None:
        """It is still under way."""

    def abort(self, run_id: str) -> None:
        self.aborted.append(run_id)
        self.steps = [step for step in self.steps if step.id != run_id]
        self._core.runs.ended(run_id, 143)

    def close(self) -> None:
        """It stays away until it is connected again."""
