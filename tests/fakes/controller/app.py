"""What every request passes before a page sees it: the record, the scripted faults, the start-up, user, crumb."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.requests import Request as Arrived
from starlette.responses import Response

from . import calls, job_pages, node_pages, queue_pages, root_pages
from .access import Unauthorized
from .agents import serve_agent
from .answers import Refused, no_crumb, unauthorized
from .faults import Request

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from .access import Caller
    from .core import Core
    from .faults import Fault
    from .server import Server

PAGES = (root_pages, node_pages, queue_pages, job_pages)  # they register themselves


class App:
    """`server` carries it: it cuts connections, and ends what takes time when it stops."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.server: Server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await serve_agent(self._core, scope, receive, send)
            return
        arrived = Arrived(scope, receive)
        try:
            body = await arrived.body()
        except ClientDisconnect:
            return
        with self._core.state.condition:
            request = self._record(arrived)
            fault = self._core.faults.take(request.line)
        answer = await self._answered(request, body, fault)
        with self._core.state.condition:
            request.status = answer.status_code if answer else None
            self._core.state.condition.notify_all()
        if answer is None:
            self.server.cut(scope["client"])
            await receive()  # until it is cut: to return before would be taken for a mistake
        else:
            await answer(scope, receive, send)

    def _record(self, arrived: Arrived) -> Request:
        core = self._core
        path = arrived.scope["raw_path"].decode() or "/"
        query = arrived.scope["query_string"].decode()
        headers = {name.lower(): value for name, value in arrived.headers.items()}
        try:
            user = core.access.caller(headers.get("authorization")).name
        except Unauthorized:
            user = "?"
        line = f"{path}?{query}" if query else path
        request = Request(arrived.method, line, user, core.state.clock.now(), headers)
        core.requests.append(request)
        core.state.condition.notify_all()
        return request

    async def _answered(self, request: Request, body: bytes, fault: Fault | None) -> Response | None:
        """The answer after the fault, if there is one; None to cut the connection."""
        if fault is None:
            return await self._respond(request, body)
        if fault.delay:
            await self.server.sleep(fault.delay)
        instead = fault.drop or fault.status is not None
        answer = await self._respond(request, body) if fault.after or not instead else None
        if fault.drop:
            return None
        if fault.status is None:
            return answer
        return Response(fault.body, fault.status, {"Content-Type": "text/html;charset=utf-8", **fault.headers})

    async def _respond(self, request: Request, body: bytes) -> Response:
        if request.path.startswith("/jnlpJars/"):
            await asyncio.to_thread(self._core.agent_jar)  # made when first asked for, and that takes seconds
        with self._core.state.condition:
            try:
                answer = self._pass(request, body)
            except Refused as refused:
                answer = refused.answer
            if "X-Hudson" in answer.headers:  # a page for people has a session
                self._core.give_session(answer, request.headers, self._core.session_of(request.headers))
            return answer

    def _pass(self, request: Request, body: bytes) -> Response:
        core = self._core
        authorization = request.headers.get("authorization")
        if core.phase == "unauthorized" and authorization:
            return unauthorized()
        if core.phase != "ready":
            return core.answers.starting()
        try:
            caller = core.access.caller(authorization)
        except Unauthorized:
            return unauthorized()
        if request.method == "POST" and not self._has_crumb(request, caller):
            return no_crumb()
        path, _, query = request.path.partition("?")
        method = "GET" if request.method == "HEAD" else request.method
        return calls.answer(calls.Call(core, caller, method, path, query, request.headers, body))

    def _has_crumb(self, request: Request, caller: Caller) -> bool:
        if caller.by_token:
            return True
        session = self._core.session_of(request.headers)
        return request.headers.get("jenkins-crumb") == self._core.access.crumb(caller, session)
