"""What cannot be had is tried again later and later, and given up when it is its own fault."""

from dataclasses import replace

import pytest

from agent.agents.failures import FIRST_PAUSE, LONGEST_PAUSE, Failures
from agent.builds import Outcome, Reason, Result
from tests.agent.agents.steps import agent

KEY = ("image=a",)


def failed(reason=Reason.IMAGE, result=Result.NOT_BUILT, **given):
    outcome = Outcome(result=result, reason=reason, message="no such image")
    return replace(agent("1", "image=a", **given), outcome=outcome)


def test_pauses_double_up_to_a_limit():
    failures, now, pauses = Failures(), 0.0, []
    for _ in range(10):
        failures.finished(failed(), now)
        pause = FIRST_PAUSE
        while failures.must_wait(KEY, now + pause):
            pause *= 2
        pauses.append(pause)
        now += pause
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert not failures.must_wait(KEY, now + LONGEST_PAUSE)


def test_others_need_not_wait():
    failures = Failures()
    failures.finished(failed(), 0)
    assert not failures.must_wait(("image=b",), 0)


def test_after_so_many_there_is_no_hope():
    failures = Failures()
    for _ in range(3):
        assert failures.hopeless(3) == {}
        failures.finished(failed(), 0)
    assert failures.hopeless(3)[KEY].message == "no such image"
    failures.forget(KEY)
    assert failures.hopeless(1) == {}
    assert not failures.must_wait(KEY, 0)


@pytest.mark.parametrize("reason", [Reason.CONTROLLER, Reason.ENGINE, Reason.INTERNAL])
def test_the_fault_of_others_is_waited_for_and_never_given_up(reason):
    failures = Failures()
    for _ in range(10):
        failures.finished(failed(reason), 0)
    assert failures.must_wait(KEY, 1)
    assert failures.hopeless(1) == {}


def test_an_agent_that_got_a_build_ends_the_row():
    failures = Failures()
    failures.finished(failed(), 0)
    failures.finished(failed(Reason.OUT_OF_MEMORY, Result.FAILURE, begun_at=1.0), 0)
    assert not failures.must_wait(KEY, 0)


def test_an_agent_that_nobody_needed_is_no_failure():
    failures = Failures()
    failures.finished(failed(Reason.UNUSED, Result.ABORTED), 0)
    assert not failures.must_wait(KEY, 0)
