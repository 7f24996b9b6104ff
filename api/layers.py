"""What is around every route: request log, faults, headers, the body's limit. Plain ASGI costs streams nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from api import problems

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger()
MAX_BODY = 1024**2  # bytes of a request that is not an upload
# A route that sets one of these itself keeps its own.
_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    # What builds wrote must never run as a page of ours.
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


class RequestLog:
    """One line per request; reads that went well are for those who debug."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, then write the line. Neither query nor headers are in it, since they may hold secrets."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int | None = None
        begin = time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        # The same dict reaches the routes, so that `auth` can leave the token's name in it.
        state = scope.setdefault("state", {})
        try:
            await self._app(scope, receive, noting)
        finally:
            quiet = scope["method"] in {"GET", "HEAD"} and (status is None or status < 400)
            (_log.debug if quiet else _log.info)(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round((time.perf_counter() - begin) * 1000, 1),
                token=state.get("token"),
            )


class Faults:
    """An exception that nothing else handles: whole in our log, without a word of it in the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 500, or cut the connection if the answer has begun, so that nobody takes a part for the whole."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            if started:
                raise  # the server logs it and hangs up
            _log.exception("fault in Sibling", method=scope["method"], path=scope["path"])
            await problems.fault(scope["path"])(scope, receive, send)


class AnswerHeaders:
    """Headers that every answer has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add those that the route did not set."""

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, adding)


class BodyLimit:
    """No body over `MAX_BODY` is read, but on `unlimited`, a path with a cap of its own."""

    def __init__(self, app: ASGIApp, unlimited: str) -> None:
        self._app = app
        self._unlimited = unlimited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the body when the route asks for it, before it is sent where its length is told."""
        if scope["type"] != "http" or scope["path"] == self._unlimited:
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        read = 0

        async def limited() -> Message:
            nonlocal read
            if announced.isdecimal() and int(announced) > MAX_BODY:
                raise HTTPException(413, f"The body has {announced} bytes; {MAX_BODY} are the most.")
            message = await receive()
            read += len(message.get("body", b""))
            if read > MAX_BODY:
                raise HTTPException(413, f"The body has more than {MAX_BODY} bytes.")
            return message

        await self._app(scope, limited, send)
