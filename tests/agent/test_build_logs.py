"""Readers see what is there, wait for what is not, and hold nobody up."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.build_log.logs import BuildLogs
from agent.engine import Stream
from agent.errors import StartBeyondEnd

pytestmark = pytest.mark.anyio
BUILD = "01m85vnenmce764hdjbwf0zfeh"


@pytest.fixture
def logs(tmp_path):
    return BuildLogs(tmp_path)


def opened(logs, **given):
    return logs.open(BUILD, **({"secrets": (), "max_bytes": 10**9} | given))


async def followed(logs, start=0):
    return b"".join([piece async for piece in logs.follow(BUILD, start)])


async def test_a_part_says_where_it_ends_and_whether_more_may_come(logs):
    assert logs.read(BUILD, 0, 100) == (b"", 0, False)
    log = opened(logs)
    log.write(Stream.STDOUT, b"0123456789")
    assert logs.read(BUILD, 3, 4) == (b"3456", 7, False)
    log.finish()
    assert logs.read(BUILD, 3, 4) == (b"3456", 7, False)
    assert logs.read(BUILD, 7, 4) == (b"789", 10, True)
    with pytest.raises(StartBeyondEnd, match="10 bytes"):
        logs.read(BUILD, 11, 1)


async def test_a_follower_may_come_before_the_log_and_gets_all_of_it(logs):
    follower = asyncio.create_task(followed(logs))
    await asyncio.sleep(0)
    log = opened(logs)
    with ThreadPoolExecutor(1) as writer:
        for number in range(200):
            await asyncio.wrap_future(writer.submit(log.write, Stream.STDOUT, b"%d\n" % number))
        writer.submit(log.finish)
        text = await asyncio.wait_for(follower, 10)
    assert text == b"".join(b"%d\n" % number for number in range(200))


async def test_a_hundred_followers_of_a_busy_writer_all_get_all(logs):
    log = opened(logs)
    followers = [asyncio.create_task(followed(logs)) for _ in range(100)]
    with ThreadPoolExecutor(1) as writer:
        for _ in range(100):
            writer.submit(log.write, Stream.STDOUT, b"x" * 10_000)
        writer.submit(log.finish)
        texts = await asyncio.wait_for(asyncio.gather(*followers), 30)
    assert set(map(len, texts)) == {1_000_000}


async def test_a_follower_goes_on_when_the_next_service_opens_the_log_again(tmp_path):
    before = BuildLogs(tmp_path)
    opened(before).write(Stream.STDOUT, b"before ")
    logs = BuildLogs(tmp_path)
    follower = asyncio.create_task(followed(logs))
    await asyncio.sleep(0)
    log = opened(logs)
    log.write(Stream.STDOUT, b"after")
    log.finish()
    assert await asyncio.wait_for(follower, 10) == b"before after"


async def test_entries_say_who_wrote_what_from_any_byte(logs):
    log = opened(logs)
    log.write(Stream.STDOUT, b"out ")
    log.write(Stream.STDERR, "ü".encode() * 50_000)
    log.finish("done")
    whole = [entry async for entry in logs.entries(BUILD, 0)]
    assert [entry.stream for entry in whole] == [Stream.STDOUT, Stream.STDERR, Stream.STDERR, Stream.SIBLING]
    assert all(entry.data.decode() for entry in whole), "no character is cut"
    text = b"".join(entry.data for entry in whole)
    for start in (0, 2, 4, 70_000, len(text)):
        rest = [entry async for entry in logs.entries(BUILD, start)]
        assert b"".join(entry.data for entry in rest) == text[start:]
    assert [entry.at_ns for entry in whole] == sorted(entry.at_ns for entry in whole)


async def test_a_follower_beyond_the_end_is_refused(logs):
    opened(logs).write(Stream.STDOUT, b"abc")
    with pytest.raises(StartBeyondEnd):
        await anext(logs.follow(BUILD, 4))
    with pytest.raises(StartBeyondEnd):
        await anext(logs.entries(BUILD, 4))


async def test_a_deleted_log_is_gone_and_deleting_it_again_is_no_error(logs, tmp_path):
    opened(logs).finish("x")
    logs.delete(BUILD)
    logs.delete(BUILD)
    assert logs.size(BUILD) == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
