"""How an agent ended, in words: for its own record, and for those who look at its node on the controller. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.builds import Job, Outcome, Reason, Result

if TYPE_CHECKING:
    from agent.controller import Run
    from agent.engine import ExitStatus

_MIB = 1024**2


@dataclass(frozen=True, kw_only=True, slots=True)
class Death:
    """What was seen of an agent that ended by itself; `memory` is its limit and `peak` the most seen, in bytes."""

    status: ExitStatus
    engine_lost: bool
    memory: int
    peak: int
    words: str  # the last that it wrote


def death(seen: Death, *, began: bool) -> Outcome:
    """An agent never ends by itself: whatever the exit code, the build on it is lost."""
    status = seen.status
    if status.oom_killed:
        reason, what = Reason.OUT_OF_MEMORY, f"out of memory: it may use {seen.memory // _MIB} MiB"
    elif seen.engine_lost:
        reason, what = Reason.ENGINE, "the engine went away, and it was probably stopped with it"
    elif status.error:
        reason, what = Reason.ENGINE, f"the engine could not run it: {status.error}"
    else:
        reason, what = Reason.EXIT_CODE, "it was ended from inside, or by somebody else"
    peak = f", {seen.peak // _MIB} MiB of memory at most" if seen.peak else ""
    during = "during its build" if began else "before a build came"
    return Outcome(
        result=Result.FAILURE if began else Result.NOT_BUILT,
        reason=reason,
        message=f"the agent died {during}: {what} (exit code {status.exit_code}{peak}). Its last words: {seen.words}",
        exit_code=status.exit_code,
    )


def job_ended(job: Job | None, run: Run | None) -> Outcome:
    """The build on an agent is over; of a pipeline that may be one part, and the rest goes on elsewhere."""
    if job is None:
        return Outcome(result=Result.SUCCESS, message="a build came and was over before it could be seen")
    if run is None:
        return Outcome(result=Result.SUCCESS, message=f"{job.name} is over, and is gone from the controller")
    if run.result is None:
        return Outcome(result=Result.SUCCESS, message=f"{job.name} has done its part here and goes on")
    result = Result(run.result)
    reason = None if result is Result.SUCCESS else Reason.JOB
    return Outcome(result=result, reason=reason, message=f"{job.name}: {run.result}")
