"""Prometheus is told what happened once, and what is so now."""

import dataclasses

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.builds import Build, BuildState, Outcome, Reason, Result
from agent.host import Host
from agent.metrics import Metrics
from agent.requests import BuildRequest

HOST = Host(cpus=2, memory_total=8, memory_available=5, disk_total=9, disk_free=7)
BUILD = Build(
    id="01m85vnenmce764hdjbwf0zfeh",
    state=BuildState.FINISHED,
    request=BuildRequest(image="busybox", commands=["make"], labels={"team": "secret-team"}),
    created_by="ci",
    created_at=1.0,
    outcome=Outcome(result=Result.FAILURE, reason=Reason.EXIT_CODE, message="exit code 3", exit_code=3),
    phases={"queued": 0.2, "run": 30.0},
)


def samples(metrics, *, host=HOST, engine_up=True, counts=None):
    """The page as Prometheus reads it: values by name and labels' values, in the order of the labels' names."""
    page = metrics.render(counts or {}, 4, host, engine_up=engine_up).decode()
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_finished_builds_are_counted_by_result_and_reason():
    metrics = Metrics()
    for _ in range(2):
        metrics.finished(BUILD)
    metrics.finished(dataclasses.replace(BUILD, outcome=Outcome(result=Result.SUCCESS, exit_code=0)))
    told = samples(metrics)
    assert told["sibling_builds_total", "exit-code", "FAILURE"] == 2
    assert told["sibling_builds_total", "", "SUCCESS"] == 1


def test_phases_are_counted_in_seconds():
    metrics = Metrics()
    metrics.finished(BUILD)
    told = samples(metrics)
    assert told["sibling_build_phase_seconds_sum", "run"] == 30.0
    assert told["sibling_build_phase_seconds_bucket", "15.0", "run"] == 0
    assert told["sibling_build_phase_seconds_bucket", "60.0", "run"] == 1
    assert told["sibling_build_phase_seconds_count", "queued"] == 1


def test_the_present_is_what_it_is_at_each_look():
    metrics = Metrics()
    before = samples(metrics, counts={BuildState.QUEUED: 3, BuildState.FINISHED: 10**6})
    after = samples(metrics, engine_up=False, host=dataclasses.replace(HOST, disk_free=1))
    assert (before["sibling_builds_now", "queued"], after["sibling_builds_now", "queued"]) == (3, 0)
    assert ("sibling_builds_now", "finished") not in before
    assert (before["sibling_engine_up",], after["sibling_engine_up",]) == (1, 0)
    assert (before["sibling_data_free_bytes",], after["sibling_data_free_bytes",]) == (7, 1)
    assert before["sibling_host_memory_available_bytes",] == 5
    assert before["sibling_slots",] == 4


@pytest.mark.parametrize("private", [BUILD.id, "ci", "busybox", "secret-team"])
def test_a_page_that_needs_no_token_tells_nothing_of_single_builds(private):
    metrics = Metrics()
    metrics.finished(BUILD)
    words = {word for key in samples(metrics) for word in key}
    assert private not in words


def test_services_in_one_process_count_for_themselves():
    one, other = Metrics(), Metrics()
    one.reaped.labels("container").inc()
    assert samples(one)["sibling_reaped_total", "container"] == 1
    assert ("sibling_reaped_total", "container") not in samples(other)
