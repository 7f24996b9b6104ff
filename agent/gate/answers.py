"""Answers that are the engine's own."""

from __future__ import annotations

from contextlib import AsyncExitStack, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from agent.gate.exchange import Exchange
    from agent.gate.upstream import Answer, Upstream


async def pass_on(exchange: Exchange, answer: Answer) -> None:
    """Answer with the engine's status and JSON, which is of this build's things alone."""
    if answer.content.strip() == b"null":  # an empty list, of the engine
        await exchange.answer(answer.status, b"null\n", {"Content-Type": "application/json"})
    elif answer.ok:
        await exchange.answer(answer.status, answer.json() if answer.content.strip() else None)
    else:
        await exchange.answer(answer.status, {"message": answer.message()})


async def hijack(
    upstream: Upstream,
    exchange: Exchange,
    path: str,
    query: Mapping[str, str] | None = None,
    body: bytes | None = None,
    starting: AbstractAsyncContextManager[None] | None = None,
) -> None:
    """Ask for raw bytes both ways, and pass them on until the engine's end; or its refusal (Docker API, hijacking).

    The engine answers, with more to come, in the block of `starting`.
    """
    async with AsyncExitStack() as stack:
        async with starting or nullcontext():
            reply = await stack.enter_async_context(upstream.request("POST", path, query, body=body, upgrade="tcp"))
        if reply.status != 101:
            await pass_on(exchange, await reply.whole())
            return
        kind = reply.headers.get("content-type", "application/vnd.docker.raw-stream")
        early = await exchange.switch("tcp", {"Content-Type": kind})
        await reply.tunnel(exchange, early)
        await exchange.linger()
