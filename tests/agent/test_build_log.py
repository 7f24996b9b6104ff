"""A log holds what the container wrote, byte for byte, whatever is cut off and whenever."""

import errno
import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.build_log import BuildLog
from agent.build_log import index as log_index
from agent.engine import Stream
from agent.errors import LogFailed

OUT, ERR = Stream.STDOUT, Stream.STDERR


def opened(path, secrets=(), max_bytes=10**9, on_growth=lambda: None):
    return BuildLog(path, secrets=secrets, max_bytes=max_bytes, on_growth=on_growth)


def streams(path):
    """What each stream has in the log, by its index."""
    found, start = dict.fromkeys(Stream, b""), 0
    with path.open("rb") as file, log_index.path_of(path).open("rb") as index:
        for record in log_index.records_from(index.fileno(), 0):
            if record.stream != log_index.END:
                found[Stream(record.stream)] += file.read(record.end - start)
                start = record.end
    return found


def replay(log, output):
    sink = log.replay_sink()
    for stream, data in output:
        sink(stream, data)


def test_what_is_written_is_there_in_order(tmp_path):
    log = opened(tmp_path / "b.log")
    log.write(OUT, b"one\n")
    log.write(ERR, memoryview(b"two"))
    log.note("three")
    log.finish("four")
    assert (tmp_path / "b.log").read_bytes() == b"one\ntwo\n[sibling] three\n[sibling] four\n"
    assert streams(tmp_path / "b.log")[ERR] == b"two"
    assert (log.complete, log.raw) == (True, {OUT: 4, ERR: 3})


def test_it_is_for_the_service_alone(tmp_path):
    opened(tmp_path / "b.log").finish()
    assert (tmp_path / "b.log").stat().st_mode & 0o777 == 0o600


def test_a_torn_write_is_cut_off_at_every_byte_and_comes_again(tmp_path):
    output = [(OUT, b"first "), (ERR, b"second "), (OUT, b"third "), (OUT, b"fourth")]
    path = tmp_path / "b.log"
    log = opened(path)
    for stream, data in output:
        log.write(stream, data)
    whole, index = path.read_bytes(), log_index.path_of(path).read_bytes()
    record = len(index) // len(output)
    for size in range(len(index) + 1):
        records = size // record
        kept = sum(len(data) for _, data in output[:records])
        for torn in range(kept, len(whole) + 1):
            path.write_bytes(whole[:torn])
            log_index.path_of(path).write_bytes(index[:size])
            again = opened(path)
            assert path.read_bytes() == whole[:kept]
            replay(again, [(OUT, b"first third fourth"), (ERR, b"second ")])
            again.finish()
            assert streams(path)[OUT] == b"first third fourth"
            assert streams(path)[ERR] == b"second "


piece = st.tuples(st.sampled_from([OUT, ERR]), st.text(alphabet="abcx", min_size=1, max_size=12).map(str.encode))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(piece, max_size=12),
    st.lists(st.text(alphabet="abc", min_size=2, max_size=5), max_size=3),
    st.lists(st.integers(0, 12), max_size=3),
)
def test_any_kills_give_the_same_streams_as_none(tmp_path_factory, output, secrets, kills):
    folder = tmp_path_factory.mktemp("log")
    straight = opened(folder / "straight.log", secrets)
    for stream, data in output:
        straight.write(stream, data)
    straight.finish()
    for kill in kills:
        log = opened(folder / "killed.log", secrets)
        replay(log, output[:kill])
    log = opened(folder / "killed.log", secrets)
    replay(log, output)
    log.finish()
    assert streams(folder / "killed.log") == streams(folder / "straight.log")


def test_a_finished_log_that_is_opened_again_stays_as_it_is(tmp_path):
    log = opened(tmp_path / "b.log")
    log.write(OUT, b"text")
    log.finish("the reason")
    before = (tmp_path / "b.log").read_bytes()
    again = opened(tmp_path / "b.log")
    replay(again, [(OUT, b"text")])
    again.finish("the reason")
    again.finish()
    assert (tmp_path / "b.log").read_bytes() == before


def test_at_the_limit_what_fits_is_kept_and_the_rest_only_counted(tmp_path):
    log = opened(tmp_path / "b.log", max_bytes=10)
    log.write(OUT, b"12345678")
    log.write(ERR, b"9abcdef")
    log.write(OUT, b"ghi")
    log.finish("FAILURE: exit code 1")
    text = (tmp_path / "b.log").read_bytes()
    assert text.startswith(b"123456789a\n[sibling] the log's limit of 10 bytes is reached")
    assert text.endswith(b"\n[sibling] FAILURE: exit code 1\n")
    assert text.count(b"limit") == 1
    assert log.raw == {OUT: 11, ERR: 7}


@pytest.mark.parametrize("before", [b"1234567890", b"12345678"], ids=["to the byte", "by a line of ours"])
def test_a_limit_that_was_reached_is_told_with_the_first_byte_that_is_dropped(tmp_path, before):
    log = opened(tmp_path / "b.log", max_bytes=10)
    log.write(OUT, before)
    if len(before) < 10:
        log.note("pulled")
    again = opened(tmp_path / "b.log", max_bytes=10)
    assert b"limit" not in (tmp_path / "b.log").read_bytes()
    for _ in range(2):
        again.write(OUT, b"more")
    again.finish()
    assert (tmp_path / "b.log").read_bytes().count(b"limit of 10 bytes") == 1


def test_a_limit_that_was_reached_before_a_crash_is_not_told_twice(tmp_path):
    log = opened(tmp_path / "b.log", max_bytes=4)
    log.write(OUT, b"123456")
    again = opened(tmp_path / "b.log", max_bytes=4)
    replay(again, [(OUT, b"1234567890")])
    again.finish()
    assert (tmp_path / "b.log").read_bytes().count(b"limit") == 1


def test_our_own_lines_are_masked_too(tmp_path):
    log = opened(tmp_path / "b.log", secrets=["hunter2"])
    log.note("could not fetch https://u:hunter2@h/")
    log.finish()
    assert b"hunter2" not in (tmp_path / "b.log").read_bytes()


def test_a_full_disk_is_told_and_leaves_what_was_there(small_disk):
    log = opened(small_disk / "b.log")
    log.write(OUT, b"kept")
    with pytest.raises(LogFailed, match=os.strerror(errno.ENOSPC)):
        log.write(OUT, b"x" * 1_000_000)
    assert (log.size, log.raw[OUT]) == (4, 4)
    log.write(OUT, b" on")
    log.finish()
    assert (small_disk / "b.log").read_bytes() == b"kept on"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_readers_are_told_after_the_write_and_at_the_end(tmp_path):
    sizes = []
    log = opened(tmp_path / "b.log", on_growth=lambda: sizes.append((log.size, log.complete)))
    log.write(OUT, b"abc")
    log.finish()
    assert sizes[0] == (3, False)
    assert sizes[-1] == (3, True)
