"""Builds: from the executor they get to their result, over lost agents, deleted nodes and restarts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from . import log_text
from .labels import label_of
from .things import Build, Cause, Item, Step, StepRun

if TYPE_CHECKING:
    from .state import State
    from .things import Agent, Node


class Runs:
    """All under the state's lock. `url` is what builds are told of the controller's address."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._steps: dict[str, Build] = {}
        self.url = ""

    # what gets an executor

    def begin(self, item: Item, node: Node) -> None:
        build = item.build or self.create(item)
        self._leave(item, build)
        build.node, build.on = node.name, node
        build.started_at = build.started_at or self._state.clock.now()
        node.running.append(build)
        if item.resumes:
            build.write(f"Ready to run at {self._now()}\n")
            self._attach(build, node)
        elif item.is_part:
            build.write(f"Running on {node.name} in {self._workspace(build)}\n[Pipeline] {{\n")
            self._next(build)
        else:
            build.write(log_text.beginning(node, self._workspace(build)))
            self._next(build)

    def create(self, item: Item) -> Build:
        job = item.job
        now = self._state.clock.now()
        build = Build(job, job.next_number, item.id, item.causes, item.parameters, item.since, now)
        job.builds[build.number] = build
        job.next_number += 1
        for user in item.causes[:1]:
            build.write(f"Started by user {log_text.noted(user)}\n")
        return build

    def start_pipeline(self, item: Item) -> None:
        """A pipeline's run needs no executor of a node; its node block then waits for one."""
        build = self.create(item)
        build.write(log_text.PIPELINE_START)
        self._leave(item, build)
        self.enqueue_part(build)

    def enqueue_part(self, build: Build, *, resumes: bool = False) -> None:
        """Put a pipeline's node block into the queue; one that resumes wants its own node and no other."""
        state = self._state
        label = label_of(f'"{build.node}"') if resumes else build.job.label
        now = state.clock.now()
        item = Item(state.next_item, build.job, label, now, [], {}, build=build, resumes=resumes)
        item.state, item.buildable_since = "buildable", now
        state.items[item.id] = item
        state.next_item += 1
        state.changed()

    def _leave(self, item: Item, build: Build) -> None:
        item.state, item.executable, item.left_at = "left", build, self._state.clock.now()

    # steps

    def _next(self, build: Build) -> None:
        """Give the agent the next step, or end the build."""
        steps: list[Step | None] = list(build.job.steps)
        if not steps and build.job.kind == "freestyle":
            steps = [None]  # its workspace is made all the same
        if build.position >= len(steps):
            self._finish(build, "SUCCESS")
            return
        step = steps[build.position]
        run = StepRun(
            f"{build.job.name}#{build.number}.{build.position}",
            self._workspace(build),
            build.job.kind == "pipeline",
            step,
            self._environment(build),
        )
        build.run, build.received = run, 0
        self._steps[run.id] = build
        build.write(log_text.announcement(build, step))
        self._state.condition.notify_all()
        if build.on and build.on.agent:
            build.on.agent.begin(run)

    def output(self, run_id: str, data: bytes) -> None:
        build = self._steps.get(run_id)
        if build:
            build.log += data
            build.received += len(data)
            self._state.condition.notify_all()

    def ended(self, run_id: str, code: int) -> None:
        build = self._steps.pop(run_id, None)
        if build is None or build.run is None or build.run.id != run_id:
            return
        build.run = None
        if build.aborted_by:
            self._finish(build, "ABORTED")
        elif code:
            self._finish(build, "FAILURE", log_text.failure(build, code))
        else:
            build.position += 1
            self._next(build)

    def _finish(self, build: Build, result: str, because: str = "") -> None:
        if not build.building:
            return
        build.write(log_text.ending(build, result, because))
        build.result, build.ended_at = result, self._state.clock.now()
        if build.run:
            self._steps.pop(build.run.id, None)
            build.run = None
        if build.on:
            build.on.running.remove(build)
            if build.on.removed and not build.on.running:
                self._state.forget(build.on)
            build.on = None
        self._state.changed()

    # people

    def stop(self, build: Build, user: str) -> None:
        if not build.building:
            return
        build.aborted_by = user
        waiting = [item for item in self._state.queued() if item.build is build]
        for item in waiting:
            self.cancel(item)
        if build.run and build.on and build.on.agent:
            build.on.agent.abort(build.run.id)
        else:
            self._finish(build, "ABORTED")

    def cancel(self, item: Item) -> None:
        item.state, item.cancelled, item.left_at = "left", True, self._state.clock.now()
        if item.build:
            self._finish(item.build, "ABORTED", "" if item.build.aborted_by else log_text.cancelled())
        self._state.changed()

    # agents

    def agent_online(self, node: Node, agent: Agent, held: set[str]) -> None:
        """`held` names the durable steps that the agent still has from before."""
        node.agent, node.held, node.lost = agent, held, None
        node.log[:] = log_text.CONNECTED
        for build in list(node.running):
            self._attach(build, node)
        self._state.changed()

    def _attach(self, build: Build, node: Node) -> None:
        """Go on with a pipeline's step, which the node's agent may or may not still have."""
        if build.run is None or node.agent is None:
            self._next(build)
        elif build.aborted_by:
            node.agent.abort(build.run.id)
        elif build.run.id in node.held:
            node.agent.resume(build.run.id, build.received)
        else:
            build.write(log_text.LOST_STEP)
            self.ended(build.run.id, -1)

    def agent_lost(self, node: Node, agent: Agent, reason: str = "Connection was broken") -> None:
        if node.agent is not agent:
            return
        node.agent = None
        node.lost = Cause(reason, self._state.clock.now())
        for build in list(node.running):
            self._orphan(build, node)
        self._state.changed()

    def _orphan(self, build: Build, node: Node) -> None:
        if build.aborted_by:
            self._finish(build, "ABORTED")
        elif build.job.kind == "freestyle":
            build.write(log_text.BROKEN)
            self._finish(build, "FAILURE")
        else:
            build.write(log_text.waits_for(node))

    def node_removed(self, node: Node) -> None:
        """A freestyle build there fails at once; a pipeline hangs until somebody stops it."""
        del self._state.nodes[node.name]
        node.removed, node.mark = True, None
        agent, node.agent = node.agent, None
        if node.running:
            self._state.leaving[node.name] = node
        for build in list(node.running):
            self._orphan(build, node)
        if agent:
            agent.close()
        self._state.changed()

    # the controller itself

    def suspend(self, *, kill: bool) -> None:
        """What running builds are after a stop: a freestyle one has failed, or after a kill was never heard of."""
        for job in self._state.jobs.values():
            for build in [build for build in job.builds.values() if build.building]:
                if build.job.kind == "pipeline":
                    self._pause(build, kill=kill)
                elif kill:
                    del job.builds[build.number]
                    self._detach(build)
                else:
                    build.write(log_text.BROKEN)
                    self._finish(build, "FAILURE")

    def _pause(self, build: Build, *, kill: bool) -> None:
        if build.on and not kill:
            self._orphan(build, build.on)
        if build.building and not kill:
            build.write("Pausing (shutting down)\n")
        self._detach(build)

    def _detach(self, build: Build) -> None:
        if build.on:
            build.on.running.remove(build)
            build.on = None

    def resume(self) -> None:
        """After the next start each pipeline wants its executor back."""
        queued = {id(item.build) for item in self._state.queued()}
        for job in self._state.jobs.values():
            for build in [build for build in job.builds.values() if build.building and id(build) not in queued]:
                if build.node is not None:
                    build.write(log_text.resuming(build.node, self._now()))
                self.enqueue_part(build, resumes=build.node is not None)

    # words

    def _now(self) -> str:
        return datetime.fromtimestamp(self._state.clock.now(), UTC).strftime("%a %b %d %H:%M:%S UTC %Y")

    def _workspace(self, build: Build) -> str:
        assert build.on is not None
        return f"{build.on.remote_fs.rstrip('/')}/workspace/{build.job.name}"

    def _environment(self, build: Build) -> dict[str, str]:
        assert build.on is not None
        return {
            "BUILD_NUMBER": str(build.number),
            "BUILD_URL": self.url + build.path,
            "JENKINS_URL": self.url,
            "JOB_NAME": build.job.name,
            "NODE_LABELS": " ".join(sorted(build.on.labels)),
            "NODE_NAME": build.on.name,
            "WORKSPACE": self._workspace(build),
            **build.parameters,
        }
