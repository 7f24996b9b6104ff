"""Answers that take long, without a server."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect, Request

from api.waiting import in_turns, while_connected, with_keep_alives
from tests.turns import turns

PING = b": ping\n\n"


class Caller:
    """The receiving half of a request: silent until it leaves."""

    def __init__(self):
        self.leaves = asyncio.Event()
        self.request = Request({"type": "http"}, self._receive)
        self._sent = False

    async def _receive(self):
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.leaves.wait()
        return {"type": "http.disconnect"}


@pytest.mark.anyio
async def test_work_that_ends_is_returned_and_nothing_waits_for_the_caller_any_more():
    async def work():
        return 7

    before = asyncio.all_tasks()
    assert await while_connected(Caller().request, work()) == 7
    assert asyncio.all_tasks() == before


@pytest.mark.anyio
async def test_an_error_of_the_work_is_raised_as_it_is():
    async def work():
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        await while_connected(Caller().request, work())


@pytest.mark.anyio
async def test_a_caller_that_leaves_ends_the_work():
    caller, ended = Caller(), asyncio.Event()

    async def work():
        caller.leaves.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    before = asyncio.all_tasks()
    with pytest.raises(ClientDisconnect):
        await while_connected(caller.request, work())
    assert ended.is_set()
    assert asyncio.all_tasks() == before


@pytest.mark.anyio
async def test_cancelling_the_wait_ends_the_work():
    started, ended = asyncio.Event(), asyncio.Event()

    async def work():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(while_connected(Caller().request, work()))
    await started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()


@pytest.mark.anyio
async def test_events_pass_in_order_with_no_keep_alive_between_them():
    async def events():
        for each in (b"a", b"b", b"c"):
            yield each

    assert [each async for each in with_keep_alives(events(), 60)] == [b"a", b"b", b"c"]


@pytest.mark.anyio
async def test_silence_is_filled_with_keep_alives_and_loses_no_event():
    goes_on = asyncio.Event()

    async def events():
        yield b"a"
        await goes_on.wait()
        yield b"b"

    seen = []
    async for each in with_keep_alives(events(), 0.001):
        seen.append(each)
        if seen.count(PING) == 3:
            goes_on.set()
    assert [each for each in seen if each != PING] == [b"a", b"b"]
    assert seen[0] == b"a"
    assert seen.count(PING) >= 3


@pytest.mark.anyio
async def test_leaving_the_stream_in_its_silence_closes_the_source():
    closed = asyncio.Event()

    async def events():
        try:
            yield b"a"
            await asyncio.Event().wait()
        finally:
            closed.set()

    before = asyncio.all_tasks()
    stream = with_keep_alives(events(), 0.001)
    assert await anext(stream) == b"a"
    assert await anext(stream) == PING
    await stream.aclose()
    assert closed.is_set()
    assert asyncio.all_tasks() == before


@pytest.mark.anyio
async def test_an_error_of_the_source_ends_the_stream_with_it():
    async def events():
        yield b"a"
        raise KeyError("broken")

    stream = with_keep_alives(events(), 60)
    assert await anext(stream) == b"a"
    with pytest.raises(KeyError, match="broken"):
        await anext(stream)


@pytest.mark.anyio
async def test_pieces_that_are_all_there_leave_others_their_turns():
    async def pieces():
        for each in range(100):
            yield bytes([each])

    async with turns() as others:
        assert b"".join([piece async for piece in in_turns(pieces())]) == bytes(range(100))
    assert others.count >= 100
