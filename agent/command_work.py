"""The work of a build that was asked for over HTTP: its command, its timeout, its artifacts."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from agent import outcomes, policy, toolkit
from agent.builds import Artifact, BuildState, Outcome, Reason, Result
from agent.changes import within
from agent.errors import AgentError
from agent.images import hooks
from agent.requests import HookRequest
from agent.threads import in_thread

if TYPE_CHECKING:
    from agent.engine import ContainerSpec, ExitStatus
    from agent.files.artifacts import Artifacts
    from agent.files.workspace import Workspaces
    from agent.policy import Place
    from agent.requests import BuildRequest
    from agent.settings import Settings
    from agent.work import Halt, Held


@dataclass(frozen=True, kw_only=True)
class Commands:
    """What all of them share; called with a claimed build it gives its work."""

    settings: Settings
    place: Place
    workspaces: Workspaces
    artifacts: Artifacts

    def __call__(self, held: Held) -> CommandWork:
        """The work of this build."""
        return CommandWork(self, held)


class CommandWork:
    """See `Work`."""

    started_state: BuildState | None = BuildState.RUNNING

    def __init__(self, commands: Commands, held: Held) -> None:
        self._commands = commands
        self._settings = commands.settings
        self._held = held
        self._request = cast("BuildRequest", held.build.request)
        self._limits = policy.limits(self._request, self._settings.builds, commands.place)
        self._due = asyncio.Event()  # there is something to attend to: a stop, or the end
        self._over = False
        self._stopping: Reason | None = None
        self._started = 0.0

    async def spec(self) -> ContainerSpec:
        """What policy makes of the request."""
        return policy.container_spec(self._held.build, self._settings.builds, self._commands.place)

    async def ready(self) -> bytes:
        """The command, and the secrets."""
        return toolkit.task(self._request, self._held.secrets)

    def furnish(self) -> None:
        """A hook's login; preparation has brought the source."""
        if isinstance(self._request, HookRequest):
            hooks.furnish(self._commands.workspaces.path(self._held.build.id), self._held.secrets)

    async def attend(self, started: float, halt: Halt) -> None:
        """Stop the container when someone asks for it, or at the timeout."""
        self._started = started
        stop = self._held.stop
        stop.tell(self._due)
        if not await within(self._due, max(0.0, started + self._limits.timeout - time.time())):
            stop.ask(Reason.TIMEOUT)
        if not self._over:
            self._stopping = stop.reason
            await halt(self._settings.engine.stop_grace)

    def ended(self) -> None:
        """No need to stop it any more."""
        self._over = True
        self._due.set()
        started = self._started or time.time()
        self._held.phases.add("run", time.time() - started)  # from its start, whoever of us saw that

    def judge(self, status: ExitStatus, *, engine_lost: bool) -> Outcome:
        """By the exit code, unless we stopped it."""
        return outcomes.ended(status, stopped=self._stopping, engine_lost=engine_lost, limits=self._limits)

    async def conclude(self, outcome: Outcome, *, ran: bool) -> tuple[Outcome, tuple[Artifact, ...]]:
        """Bring the artifacts home. A build that did its work but cannot hand it over has failed."""
        if not ran or not self._request.artifacts:
            return outcome, ()
        build_id, commands = self._held.build.id, self._commands
        workspace = commands.workspaces.path(build_id)
        try:
            with self._held.phases("artifacts"):
                found = await in_thread(
                    commands.artifacts.collect, build_id, workspace, self._request.artifacts, note=self._held.log.note
                )
        except AgentError as error:
            if outcome.result is not Result.SUCCESS:
                return outcome, ()
            return Outcome(
                result=Result.FAILURE, reason=Reason.ARTIFACTS, message=str(error), exit_code=outcome.exit_code
            ), ()
        return outcome, found
