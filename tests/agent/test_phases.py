"""Durations by phase add up, and are never negative."""

import pytest

from agent.phases import Phases


def test_a_phase_that_was_entered_twice_adds_up_and_keeps_its_place():
    phases = Phases()
    for name, seconds in (("pull", 1.5), ("run", 2.0), ("pull", 0.25)):
        phases.add(name, seconds)
    assert list(phases.seconds.items()) == [("pull", 1.75), ("run", 2.0)]
    assert str(phases) == "pull 1.75 s, run 2.00 s"


def test_what_was_measured_before_a_crash_is_gone_on_with_and_not_changed():
    before = {"queued": 3.0}
    phases = Phases(before)
    phases.add("queued", 1.0)
    assert phases.seconds == {"queued": 4.0}
    assert before == {"queued": 3.0}


def test_a_clock_that_was_set_back_takes_nothing_away():
    phases = Phases({"run": 2.0})
    phases.add("run", -3600)
    phases.add("queued", -1)
    assert phases.seconds == {"run": 2.0, "queued": 0.0}


def test_a_phase_that_fails_is_measured_too():
    phases = Phases()
    with pytest.raises(LookupError), phases("source"):
        raise LookupError
    assert phases.seconds.keys() == {"source"}


def test_nothing_measured_is_an_empty_text():
    assert str(Phases()) == ""
