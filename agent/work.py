"""What running a build means, whatever its kind: who runs it, what it is in hand, and what its container is for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from agent.builds import Outcome, Reason, Result
from agent.errors import LogFailed
from agent.phases import Phases
from agent.threads import in_thread

if TYPE_CHECKING:
    from agent.build_log import BuildLog
    from agent.build_store import BuildStore
    from agent.builds import Artifact, Build, BuildState, ImageRecord
    from agent.engine import ContainerSpec, ExitStatus
    from agent.stop import Stop


class BuildRunner(Protocol):
    """Takes builds of one kind to their end."""

    async def run(self, build: Build, stop: Stop, *, again: bool = False) -> Build:
        """Take a claimed build to its published result and return its record; the caller then calls `clean`.

        `again` tells that an earlier call for the same claim may have begun it. Raises StoreUnavailable; then it must
        be called again. Raises StaleClaim if the build is another's by now; then nothing of it was touched.
        """

    async def clean(self, build: Build) -> None:
        """Remove what a build needed while it ran. The reaper tries again where that cannot be done."""


Halt = Callable[[float], Awaitable[None]]  # stops the container: TERM, then KILL after so many seconds


class Held:
    """A claimed build in the hands of its run: its record as last written, and what goes with it."""

    def __init__(self, store: BuildStore, build: Build, stop: Stop, log: BuildLog, secrets: dict[str, str]) -> None:
        self._store = store
        self.build = build
        self.stop = stop
        self.log = log
        self.secrets = secrets
        self.phases = Phases(build.phases)
        self._turn = asyncio.Lock()  # each change is made to the record that the one before it left

    async def advance(self, **values: Any) -> None:
        """Write down how far it has come; see `BuildStore.advance`. Never cancel a task that is here."""
        async with self._turn:
            self.build = await in_thread(self._store.advance, self.build, **values)

    async def publish(
        self, outcome: Outcome, artifacts: tuple[Artifact, ...], image: ImageRecord | None = None
    ) -> Build:
        """End the log, then the build, so that whoever sees a result can read all of its log; its final record."""
        note = None
        if outcome.result is not Result.SUCCESS:
            note = f"{outcome.result}: {outcome.message} ({self.phases})"
        try:
            await in_thread(self.log.finish, note)
        except LogFailed as error:
            outcome = Outcome(
                result=Result.FAILURE, reason=Reason.INTERNAL, message=str(error), exit_code=outcome.exit_code
            )
        return await in_thread(
            self._store.finish,
            self.build,
            outcome,
            phases=self.phases.seconds,
            artifacts=artifacts,
            image=image,
        )


class Work(Protocol):
    """One build's work. Called in this order; `conclude` alone is called in any case, and last."""

    started_state: BuildState | None
    """The state that a build is in once its container was started; None if that alone changes nothing."""

    async def spec(self) -> ContainerSpec:
        """What the container is made of. Raises InvalidRequest, Rejected."""

    async def ready(self) -> bytes:
        """Prepare what is outside of the engine, beside workspace and image; returns what `enter` reads."""

    def furnish(self) -> None:
        """Put into the new workspace what belongs there; in a thread."""

    async def attend(self, started: float, halt: Halt) -> None:
        """See to it while the container runs, from its start; returns after `ended`, or when it was halted."""

    def ended(self) -> None:
        """The container's output has ended, or we lost it."""

    def judge(self, status: ExitStatus, *, engine_lost: bool) -> Outcome:
        """How it ended, of what the engine says."""

    async def conclude(self, outcome: Outcome, *, ran: bool) -> tuple[Outcome, tuple[Artifact, ...]]:
        """Bring home what it leaves. `ran` tells whether the container was started."""
