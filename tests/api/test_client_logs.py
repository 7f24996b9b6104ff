"""`sibling logs`: now, or to the end."""

from __future__ import annotations

import pytest

from tests.api import client_process
from tests.fakes.build_server import BuildServer, Cut, FakeBuild, Say, UntilReleased


@pytest.fixture
def server():
    with BuildServer() as server:
        yield server


def test_the_log_of_a_running_build_is_shown_as_it_is_now(server):
    build = server.add(FakeBuild((Say(b"\x00one\n" * 100), UntilReleased()), page=64))
    ended = client_process.run("logs", build.id, "--url", server.url)
    assert (ended.stdout, ended.stderr, ended.returncode) == (build.log, b"", 0)


def test_times_of_a_running_builds_log_stop_where_it_is_now(server):
    build = server.add(FakeBuild((Say(b"one\n"), Say(b"two\n"), UntilReleased())))
    ended = client_process.run("logs", "--timestamps", build.id, "--url", server.url)
    assert ended.stdout == b"10:00:00.250 one\n10:00:00.250 two\n"


def test_times_of_an_empty_log_are_nothing(server):
    build = server.add(FakeBuild((UntilReleased(),)))
    ended = client_process.run("logs", "--timestamps", build.id, "--url", server.url)
    assert (ended.stdout, ended.returncode) == (b"", 0)


def test_following_ends_with_the_build_and_is_no_failure_if_the_build_is(server):
    build = server.add(FakeBuild((Say(b"one\n"), Cut(2), Say(b"two\n")), result="FAILURE", exit_code=3))
    ended = client_process.run("logs", "-f", build.id, "--url", server.url)
    assert (ended.stdout, ended.stderr, ended.returncode) == (build.log, b"", 0)


def test_a_reader_that_leaves_ends_it_quietly(server):
    build = server.add(FakeBuild((Say(b"line\n"), UntilReleased(), *[Say(b"more\n" * 10_000)] * 50)))
    with client_process.start("logs", "-f", build.id, "--url", server.url) as process:
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        build.release.set()
        assert process.wait(30) == 141
        assert process.stderr.read() == b""
    assert not [asked for asked in server.asked if asked.method == "POST"]


def test_an_unknown_build_is_told_in_a_sentence(server):
    ended = client_process.run("logs", "-f", "nosuch/../build", "--url", server.url)
    assert ended.returncode == 1
    assert ended.stderr == b"[sibling] There is no build nosuch%2F..%2Fbuild.\n"
