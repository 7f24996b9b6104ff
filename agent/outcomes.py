"""How a build ended, judged from what was seen. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.builds import Outcome, Reason, Result
from agent.errors import (
    AgentError,
    BuildStepFailed,
    ControllerError,
    EngineError,
    HookFailed,
    ImageUnavailable,
    PushFailed,
    Rejected,
    SourceFailed,
)

if TYPE_CHECKING:
    from agent.engine import ExitStatus
    from agent.policy import Limits

_MIB = 1024**2
_STOPPED = {Reason.UNUSED: "no build came to it"}


def ended(status: ExitStatus, *, stopped: Reason | None, engine_lost: bool, limits: Limits) -> Outcome:
    """The container ended. `stopped` is why we stopped it; `engine_lost` tells that the engine was away in between."""
    if stopped is not None:
        return aborted(stopped, timeout=limits.timeout, exit_code=status.exit_code)
    if status.exit_code == 0:
        return Outcome(result=Result.SUCCESS, exit_code=0)
    if status.oom_killed:
        reason, message = Reason.OUT_OF_MEMORY, f"out of memory: it may use {limits.memory // _MIB} MiB"
    elif engine_lost:
        reason, message = Reason.ENGINE, "the engine went away during the build, which was probably stopped with it"
    elif status.error:
        reason, message = Reason.ENGINE, f"the engine could not run it: {status.error}"
    else:
        reason, message = Reason.EXIT_CODE, _exit_message(status.exit_code)
    return Outcome(result=Result.FAILURE, reason=reason, message=message, exit_code=status.exit_code)


def aborted(reason: Reason, *, timeout: float = 0, exit_code: int | None = None) -> Outcome:
    """We stopped it, or never began; `timeout` is what it was allowed, in seconds."""
    message = _STOPPED.get(reason, "cancelled")
    if reason is Reason.TIMEOUT:
        message = f"stopped after its timeout of {timeout:g} s"
    return Outcome(result=Result.ABORTED, reason=reason, message=message, exit_code=exit_code)


def failed(error: AgentError, *, ran: bool) -> Outcome:
    """We could not take it to its end. NOT_BUILT if its command never ran, so that nobody looks for the fault in it."""
    if isinstance(error, SourceFailed):
        reason = Reason.SOURCE
    elif isinstance(error, BuildStepFailed):
        return Outcome(result=Result.FAILURE, reason=Reason.STEP, message=str(error), exit_code=1)
    elif isinstance(error, PushFailed):
        reason = Reason.PUSH
    elif isinstance(error, HookFailed):
        reason = Reason.HOOK
    elif isinstance(error, ImageUnavailable):
        reason = Reason.IMAGE
    elif isinstance(error, EngineError):
        reason = Reason.ENGINE
    elif isinstance(error, Rejected):
        reason = Reason.POLICY
    elif isinstance(error, ControllerError):
        reason = Reason.CONTROLLER
    else:
        reason = Reason.INTERNAL
    return Outcome(result=Result.FAILURE if ran else Result.NOT_BUILT, reason=reason, message=str(error))


def fault(error: Exception) -> Outcome:
    """A fault of ours must end as the build's result, with its trace in the service's log, not as a stuck build."""
    return Outcome(result=Result.FAILURE, reason=Reason.INTERNAL, message=f"a fault in Sibling: {error!r}")


def _exit_message(code: int) -> str:
    return f"exit code {code}" + (f" (signal {code - 128})" if 128 < code < 160 else "")
