"""Asking to stop counts once, and ends what waits."""

import asyncio

import pytest

from agent.builds import Reason
from agent.stop import Stop, Stopped

pytestmark = pytest.mark.anyio


async def test_the_first_reason_counts():
    stop = Stop()
    stop.ask(Reason.TIMEOUT)
    stop.ask(Reason.CANCELLED)
    assert stop.reason is Reason.TIMEOUT
    with pytest.raises(Stopped):
        stop.check()


async def test_work_that_is_not_stopped_gives_its_value_or_its_error():
    async def fail():
        raise LookupError("no")

    async def work():
        return 42

    stop = Stop()
    assert await stop.or_else(work()) == 42
    with pytest.raises(LookupError):
        await stop.or_else(fail())


async def test_stopping_ends_work_that_would_wait_for_ever():
    stop, ended = Stop(), asyncio.Event()

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(stop.or_else(work()))
    await asyncio.sleep(0)
    stop.ask(Reason.CANCELLED)
    with pytest.raises(Stopped):
        await waiting
    await asyncio.wait_for(ended.wait(), 1)


async def test_work_after_the_stop_does_not_begin_in_vain():
    stop = Stop()
    stop.ask(Reason.CANCELLED)
    with pytest.raises(Stopped):
        await stop.or_else(asyncio.Event().wait())
