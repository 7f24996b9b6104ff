"""Of the nodes on the controller, those go that nobody needs, and no other."""

import time
from dataclasses import replace

import pytest

from agent.agents import ownership
from agent.agents.reconciler import Reconciler, stale
from agent.builds import BuildState, Outcome, Reason, Result
from tests.agent.agents.steps import ID, THEM, US, agent, computer, owned

KEEP = 600.0
WE = Reconciler(
    view=None,
    store=None,
    service_id=US,
    own_name="sibling-us",
    keep_failed=KEEP,
    training=lambda: "sibling-training-now",
)


def ended(last, result, reason=None, ago=1.0):
    outcome = Outcome(result=result, reason=reason, message="x")
    build = agent(last, "image=a", state=BuildState.FINISHED, finished_at=time.time() - ago)
    return replace(build, outcome=outcome)


def node(last, **given):
    return owned(f"sibling-{last}", "image=a", build=f"{ID}{last}", **given)


def gone(computers, builds=()):
    return set(stale(computers, {build.id: build for build in builds}, WE))


@pytest.mark.parametrize("state", [BuildState.QUEUED, BuildState.PREPARING, BuildState.CONNECTED, BuildState.RUNNING])
def test_an_agent_that_lives_keeps_its_node(state):
    assert gone([node("1")], [agent("1", "image=a", state=state)]) == set()


def test_an_agent_that_ended_or_is_unknown_does_not():
    assert gone([node("1"), node("2")], [ended("1", Result.SUCCESS)]) == {"sibling-1", "sibling-2"}


def test_the_newest_failure_of_a_label_stays_for_a_while_to_be_seen():
    builds = [
        ended("1", Result.NOT_BUILT, Reason.IMAGE, ago=20),
        ended("2", Result.NOT_BUILT, Reason.IMAGE, ago=10),
        ended("3", Result.FAILURE, Reason.JOB),
        ended("4", Result.ABORTED, Reason.UNUSED),
    ]
    assert gone([node(each) for each in "1234"], builds) == {"sibling-1", "sibling-3", "sibling-4"}
    assert gone([node("1")], [ended("1", Result.FAILURE, Reason.OUT_OF_MEMORY, ago=KEEP + 1)]) == {"sibling-1"}


def test_nodes_of_nobody_stay():
    assert gone([computer("built-in"), computer("sibling-1", "image=a")]) == set()


def test_our_registration_stays_and_an_older_one_goes():
    ours = owned("sibling-us", role=ownership.REGISTRATION)
    renamed = owned("sibling-before", role=ownership.REGISTRATION)
    assert gone([ours, renamed]) == {"sibling-before"}


def test_a_training_that_was_cut_off_goes():
    now = owned("sibling-training-now", role=ownership.TRAINING)
    before = owned("sibling-training-x", role=ownership.TRAINING)
    assert gone([now, before]) == {"sibling-training-x"}


class TestOtherServices:
    def leased(self, seconds):
        return owned("sibling-them", role=ownership.REGISTRATION, service=THEM, until=int(time.time() + seconds))

    def test_their_nodes_are_theirs_during_their_lease(self):
        assert gone([self.leased(60), node("1", service=THEM)]) == set()

    def test_after_it_they_go_but_not_their_registration(self):
        assert gone([self.leased(-60), node("1", service=THEM)]) == {"sibling-1"}

    def test_one_that_is_online_has_somebody(self):
        assert gone([self.leased(-60), node("1", service=THEM, offline=False)]) == set()

    def test_without_any_lease_they_go(self):
        assert gone([node("1", service=THEM)]) == {"sibling-1"}
