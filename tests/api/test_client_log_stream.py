"""The promise that matters most: a followed log is the log, whatever happens to the connection."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.client.connection import Connection
from api.client.log_stream import RawLog
from api.client.timed_log import TimedLog
from tests.fakes.build_server import BuildServer, Cut, EndStream, FakeBuild, Say

STAMP = len("10:00:00.250 ")


@pytest.fixture(scope="module")
def server():
    with BuildServer() as server:
        yield server


def says(data):
    return st.builds(Say, data, st.sampled_from(["stdout", "stderr"]))


FAULTS = st.one_of(st.builds(Cut, st.integers(0, 40)), st.builds(EndStream))
RAW_STEPS = st.lists(st.one_of(says(st.binary(max_size=40)), st.builds(Cut, st.integers(0, 40))), max_size=8)
LINES = st.text(alphabet="aé\U0001f600", max_size=5).map(lambda text: f"{text}\n".encode())


def followed(server, kind, steps, **options):
    build = server.add(FakeBuild(tuple(steps)))
    written = []
    with closing(Connection(server.url)) as connection:
        log = kind(connection, build.id, written.append, **options)
        log.follow()
    return b"".join(written), log, build


@settings(max_examples=40, deadline=None)
@given(steps=RAW_STEPS)
def test_the_raw_log_is_complete_whatever_is_cut(server, steps):
    written, log, build = followed(server, RawLog, steps)
    assert written == build.log
    assert log.offset == len(build.log)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.one_of(says(LINES), st.builds(Cut, st.integers(0, 200))), max_size=8))
def test_the_log_with_times_is_complete_whatever_is_cut(server, steps):
    written, log, build = followed(server, TimedLog, steps, colours=False)
    lines = written.decode().splitlines(keepends=True)
    assert "".join(line[STAMP:] for line in lines).encode() == build.log
    assert log.offset == len(build.log)


@pytest.mark.parametrize(("kind", "options"), [(RawLog, {}), (TimedLog, {"colours": False})])
def test_a_stream_that_ends_before_the_build_does_is_taken_up_again(server, kind, options):
    written, _, build = followed(server, kind, [Say(b"a\n"), EndStream(), Say(b"b\n")], **options)
    assert written.replace(b"10:00:00.250 ", b"") == build.log


def test_what_the_log_gained_between_stream_and_end_is_fetched(server):
    build = server.add(FakeBuild((Say(b"a\n"), EndStream(), Say(b"b\n"))))
    build.finished.set()
    written = []
    with closing(Connection(server.url)) as connection:
        RawLog(connection, build.id, written.append).follow()
    assert b"".join(written) == b"a\nb\n"
