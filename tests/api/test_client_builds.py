"""`sibling ps`, `show` and `cancel`."""

from __future__ import annotations

import json

import pytest

from tests.api import client_process
from tests.fakes.build_server import BuildServer, FakeBuild, Say


@pytest.fixture
def server():
    with BuildServer() as server:
        yield server


def ended(server, **options):
    build = server.add(FakeBuild(**options))
    build.finished.set()
    return build


def sibling(server, *arguments):
    return client_process.run(*arguments, "--url", server.url)


def test_ps_lists_what_has_not_ended_the_newest_first(server):
    queued = server.add(FakeBuild())
    ended(server)
    running = server.add(FakeBuild(state="running"))
    lines = sibling(server, "ps").stdout.decode().splitlines()
    assert lines[0].split() == ["ID", "STATE", "IMAGE", "AGE", "DURATION", "BY"]
    assert [line.split()[:3] for line in lines[1:]] == [
        [running.id, "running", "busybox"],
        [queued.id, "queued", "busybox"],
    ]
    assert lines[1].endswith("tester")


def test_ps_all_shows_results_and_durations(server):
    ended(server, result="FAILURE")
    line = sibling(server, "ps", "--all").stdout.decode().splitlines()[1]
    assert "FAILURE" in line
    assert "1.7 s" in line


def test_ps_state_asks_for_that_state_alone(server):
    server.add(FakeBuild())
    running = server.add(FakeBuild(state="running"))
    assert [build["id"] for build in json.loads(sibling(server, "ps", "--state", "running", "--json").stdout)] == [
        running.id
    ]


def test_ps_limit_goes_over_several_pages_and_stops_in_time(server):
    builds = [server.add(FakeBuild()) for _ in range(230)]
    listed = json.loads(sibling(server, "ps", "--json", "--limit", "210").stdout)
    assert [build["id"] for build in listed] == [build.id for build in reversed(builds)][:210]


def test_ps_of_nothing_is_a_heading_and_an_empty_list(server):
    assert len(sibling(server, "ps").stdout.splitlines()) == 1
    assert json.loads(sibling(server, "ps", "--json").stdout) == []


def test_show_tells_all_that_a_person_wants_to_know(server):
    build = ended(
        server,
        steps=(Say(b"x" * 1500),),
        result="FAILURE",
        exit_code=7,
        reason="exit-code",
        message="The command failed.",
        artifacts={"out/a.txt": b"12345"},
        request={"image": "busybox:1", "argv": ["echo", "a b"], "labels": {"team": "x"}},
    )
    shown = sibling(server, "show", build.id).stdout.decode()
    for fact in (
        build.id,
        "FAILURE (exit-code), exit code 7",
        "The command failed.",
        "busybox:1 (sha256:",
        "echo 'a b'",
        "tester",
        "2026-03-01 10:00:03",
        "queued 0.01, source 0.1, run 3.0",
        "team=x",
        "1.5 kB",
        f"{server.url}/v1/builds/{build.id}/log",
        "out/a.txt (5 B)",
    ):
        assert fact in shown


def test_show_of_a_queued_build_leaves_out_what_is_not_known(server):
    build = server.add(FakeBuild())
    shown = sibling(server, "show", build.id).stdout.decode()
    assert "None" not in shown
    assert "finished" not in shown


def test_show_json_is_what_the_service_says(server):
    build = ended(server)
    assert json.loads(sibling(server, "show", "--json", build.id).stdout) == build.as_json()


def test_cancel_cancels_every_build_even_if_one_is_unknown(server):
    first, last = server.add(FakeBuild(state="running")), ended(server)
    done = sibling(server, "cancel", first.id, "nosuch", last.id)
    assert done.returncode == 1
    assert done.stdout.decode() == f"{first.id}: cancel requested\n{last.id}: ended, SUCCESS, exit code 0\n"
    assert b"There is no build nosuch" in done.stderr
    assert first.cancelled.is_set()
    assert not last.cancelled.is_set()
