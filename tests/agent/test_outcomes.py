"""What was seen of a container's end becomes the right result, never a wrong SUCCESS."""

import pytest

from agent.builds import Reason, Result
from agent.engine import ExitStatus
from agent.errors import EngineError, ImageUnavailable, SourceFailed
from agent.outcomes import ended, failed
from agent.policy import Limits

LIMITS = Limits(cpus=1, memory=64 * 1024**2, pids=10, shm_size=1, timeout=30)


def status(code, **given):
    return ExitStatus(**({"exit_code": code, "oom_killed": False, "started_at": 1.0, "finished_at": 2.0} | given))


@pytest.mark.parametrize(
    ("seen", "stopped", "lost", "result", "reason", "words"),
    [
        (status(0), None, False, Result.SUCCESS, None, None),
        (status(0), None, True, Result.SUCCESS, None, None),
        (status(0), Reason.CANCELLED, False, Result.ABORTED, Reason.CANCELLED, "cancelled"),
        (status(0), Reason.TIMEOUT, False, Result.ABORTED, Reason.TIMEOUT, "timeout of 30 s"),
        (status(3), None, False, Result.FAILURE, Reason.EXIT_CODE, "exit code 3"),
        (status(139), None, False, Result.FAILURE, Reason.EXIT_CODE, "signal 11"),
        (status(137, oom_killed=True), None, False, Result.FAILURE, Reason.OUT_OF_MEMORY, "64 MiB"),
        (status(0, oom_killed=True), None, False, Result.SUCCESS, None, None),
        (status(137), None, True, Result.FAILURE, Reason.ENGINE, "engine went away"),
        (status(127, error="no such device"), None, False, Result.FAILURE, Reason.ENGINE, "no such device"),
    ],
)
def test_an_end_is_judged(seen, stopped, lost, result, reason, words):
    outcome = ended(seen, stopped=stopped, engine_lost=lost, limits=LIMITS)
    assert (outcome.result, outcome.reason) == (result, reason)
    assert outcome.exit_code == seen.exit_code
    assert words is None or words in (outcome.message or "")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SourceFailed("no such branch"), Reason.SOURCE),
        (ImageUnavailable("no such image"), Reason.IMAGE),
        (EngineError("refused"), Reason.ENGINE),
    ],
)
def test_a_build_that_never_ran_is_not_built_and_says_why(error, reason):
    outcome = failed(error, ran=False)
    assert (outcome.result, outcome.reason, outcome.message) == (Result.NOT_BUILT, reason, str(error))
    assert failed(error, ran=True).result is Result.FAILURE
