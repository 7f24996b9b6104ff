"""How many agents are wanted is counted from what waits and what is there, item by item."""

from collections import Counter
from dataclasses import replace

import pytest

from agent.agents import demand, ownership
from agent.agents.remote import node_name
from agent.builds import AgentRecord, BuildState, Job
from tests.agent.agents.steps import ID, THEM, US, agent, by_name, catalog, computer, item, owned

A, B = "image=a", "image=b"


def made(items=(), computers=(), agents=(), templates=None, *, idle=True):
    """The labels of the agents to make, with how many of each; and the last letters of those unwanted."""
    known = by_name(*computers)
    offers = catalog(**(templates or {}))
    waiting = demand.needs(items, known, offers, demand.coming_back(agents, "now"))
    spare = demand.spares(agents, known, US)
    plan = demand.plan(waiting, spare, agents, offers, idle=idle)
    return Counter(demand.key_of(each)[0] for each in plan.make), {build[-1] for build in plan.unwanted}


def test_each_item_gets_an_agent():
    assert made([item(1, label=A), item(2, label=A), item(3, label=B)]) == ({A: 2, B: 1}, set())


@pytest.mark.parametrize("given", [{"buildable": False}, {"pending": True}])
def test_only_items_that_miss_nothing_but_an_executor_count(given):
    assert made([item(1, label=A, **given)]) == ({}, set())


def test_items_of_others_are_left_alone():
    items = [
        item(1, label="windows"),
        item(2, why="There are no nodes with the label \u2018gpu\u2019"),
        item(3, why=""),
    ]
    assert made(items) == ({}, set())


@pytest.mark.parametrize("state", [BuildState.QUEUED, BuildState.PREPARING, BuildState.CONNECTED])
def test_an_agent_without_a_build_is_for_the_next_item(state):
    assert made([item(1, label=A)], agents=[agent("1", A, state=state)]) == ({}, set())
    assert made([item(1, label=A), item(2, label=A)], agents=[agent("1", A, state=state)]) == ({A: 1}, set())


def test_an_agent_with_a_build_is_for_nobody_else():
    busy = agent("1", A, state=BuildState.RUNNING, begun_at=2.0)
    assert made([item(1, label=A)], agents=[busy]) == ({A: 1}, set())


def test_what_nobody_waits_for_is_unwanted():
    assert made([item(1, label=B)], agents=[agent("1", A), agent("2", B), agent("3", B)]) == ({}, {"1", "3"})


def test_a_pipeline_is_told_by_the_node_that_its_item_names():
    ours = owned(f"sibling-{'1'}", A, build=None)
    why = "\u2018sibling-1\u2019 is offline"
    busy = agent("1", A, state=BuildState.RUNNING, begun_at=2.0)
    assert made([item(1, why=why)], [ours], [busy]) == ({A: 1}, set())
    assert made([item(1, why=why)], [ours], [agent("1", A)]) == ({}, set())


def test_a_node_of_several_labels_stands_for_its_template():
    templates = {"t": {"image": "x", "labels": ["linux", "small"]}}
    ours = owned("sibling-1", "linux", "small")
    assert made([item(1, why="\u2018sibling-1\u2019 is offline")], [ours], templates=templates)[0] == {"linux": 1}


def test_a_pipeline_that_comes_back_to_its_node_needs_no_other():
    ours = owned(node_name(f"{ID}1"), A)
    job = Job(url="http://jenkins/job/1/", number=1, name="job 1")
    why = f"\u2018{ours.name}\u2019 is offline"

    def begun(session):
        record = AgentRecord(begun_at=1.0, job=job, session=session)
        return [replace(agent("1", A, state=BuildState.RUNNING), agent=record)]

    assert made([item(1, why=why)], [ours], begun("before")) == ({}, set())
    assert made([item(1, why=why)], [ours], begun("now")) == ({A: 1}, set()), "a parallel part of it"
    assert made([item(2, why=why)], [ours], begun("before")) == ({A: 1}, set()), "another job of that label"


class TestOtherServices:
    registration = owned("r", role=ownership.REGISTRATION, service=THEM, offline=False, until=9_000_000_000)

    def test_their_unused_agents_count(self):
        theirs = owned("sibling-9", A, service=THEM)
        assert made([item(1, label=A)], [self.registration, theirs]) == ({}, set())

    @pytest.mark.parametrize("given", [{"idle": False}, {"marked_offline": True}])
    def test_their_used_or_closed_agents_do_not(self, given):
        theirs = owned("sibling-9", A, service=THEM, **given)
        assert made([item(1, label=A)], [self.registration, theirs]) == ({A: 1}, set())

    def test_agents_of_a_dead_service_are_not_waited_for(self):
        assert made([item(1, label=A)], [owned("sibling-9", A, service=THEM)]) == ({A: 1}, set())
        connected = owned("sibling-9", A, service=THEM, offline=False)
        assert made([item(1, label=A)], [connected]) == ({}, set())

    def test_nodes_of_nobody_do_not_count(self):
        assert made([item(1, label=A)], [computer("n", A)]) == ({A: 1}, set())


class TestTemplates:
    def test_a_cap_counts_all_agents_of_the_template(self):
        templates = {"t": {"image": "x", "cap": 3}}
        running = agent("1", "t", template="t", state=BuildState.RUNNING, begun_at=1.0)
        items = [item(number, label="t") for number in range(5)]
        assert made(items, agents=[running], templates=templates)[0] == {"t": 2}

    def test_min_idle_is_kept_beyond_what_items_take(self):
        templates = {"t": {"image": "x", "min_idle": 2}}
        assert made(templates=templates) == ({"t": 2}, set())
        idle = [agent("1", "t", template="t"), agent("2", "t", template="t")]
        assert made(agents=idle, templates=templates) == ({}, set())
        assert made([item(1, label="t")], agents=idle, templates=templates) == ({"t": 1}, set())
        three = [*idle, agent("3", "t", template="t")]
        assert made(agents=three, templates=templates) == ({}, {"3"})

    def test_a_drain_keeps_none(self):
        templates = {"t": {"image": "x", "min_idle": 1}}
        assert made(agents=[agent("1", "t", template="t")], templates=templates, idle=False) == ({}, {"1"})

    def test_min_idle_stays_below_the_cap(self):
        templates = {"t": {"image": "x", "min_idle": 2, "cap": 2}}
        running = agent("1", "t", template="t", state=BuildState.RUNNING, begun_at=1.0)
        assert made(agents=[running], templates=templates)[0] == {"t": 1}
