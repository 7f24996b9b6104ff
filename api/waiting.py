"""Answers that take long: given up when the caller leaves, kept alive in silence, fair to others."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from fastapi.sse import KEEPALIVE_COMMENT
from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine
    from typing import Any

    from starlette.requests import Request

T = TypeVar("T")


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; raises ClientDisconnect, with `work` cancelled, once the caller has left.

    For routes that read no body: this reads what else the caller sends.
    """
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        await _end(working, leaving)


async def with_keep_alives(events: AsyncGenerator[bytes], period: float) -> AsyncGenerator[bytes]:
    """The events, and a comment after every `period` seconds without one, so that no proxy cuts a silent stream."""
    coming: asyncio.Future[bytes | None] | None = None
    async with aclosing(events):
        try:
            while True:
                coming = asyncio.ensure_future(anext(events, None))
                while not (await asyncio.wait((coming,), timeout=period))[0]:
                    yield KEEPALIVE_COMMENT
                event = coming.result()
                if event is None:
                    return
                yield event
        finally:
            if coming is not None:
                await _end(coming)


async def in_turns(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The pieces, with a turn for everybody else after each: a fast caller's socket alone would never make us wait."""
    async with aclosing(pieces):
        async for piece in pieces:
            yield piece
            await asyncio.sleep(0)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
