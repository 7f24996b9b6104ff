"""Agents over WebSocket: who is let in, and what is said then.

A message is a few lines of text, an empty line, and bytes. The first line is its verb and whom that concerns. To the
agent: `run`, `resume`, `abort` and `done` of a step; `jar`, `jars-end` and `bytes`. From it: `hello`, `need`, `ready`,
`out` and `end`. Further lines are `key value`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket, WebSocketDisconnect

from .answers import jetty

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from .core import Core
    from .things import Node, StepRun


@dataclass
class Message:
    verb: str
    subject: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def encoded(self) -> bytes:
        lines = [f"{self.verb} {self.subject}", *(f"{name} {value}" for name, value in self.fields)]
        return "\n".join(lines).encode() + b"\n\n" + self.body

    @classmethod
    def decoded(cls, data: bytes) -> Message:
        head, _, body = data.partition(b"\n\n")
        first, *rest = head.decode().split("\n")
        verb, _, subject = first.partition(" ")
        pairs = [line.partition(" ") for line in rest]
        return cls(verb, subject, [(name, value) for name, _, value in pairs], body)


class SocketAgent:
    """A connected agent. What is to be sent waits in a queue of its own, so that nobody waits for the network."""

    def __init__(self, core: Core, node: Node, socket: WebSocket) -> None:
        self.node = node
        self._core = core
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[Message | None] = asyncio.Queue()

    def begin(self, run: StepRun) -> None:
        step = run.step
        fields = [("workspace", run.workspace), ("durable", str(run.durable).lower())]
        fields += [("file", step.file)] if step and step.file else []
        fields += [("kind", "nothing" if step is None else "write" if step.file else "sh")]
        fields += [("env", f"{name}={value}") for name, value in run.env.items()]
        self._post(Message("run", run.id, fields, step.text.encode() if step else b""))

    def resume(self, run_id: str, offset: int) -> None:
        self._post(Message("resume", run_id, [("offset", str(offset))]))

    def abort(self, run_id: str) -> None:
        self._post(Message("abort", run_id))

    def close(self) -> None:
        self._post(None)

    def _post(self, message: Message | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop ended, and the connection with it
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, message)

    async def talk(self) -> None:
        """Until the connection ends, whoever ends it."""
        writing = asyncio.create_task(self._write())
        reading = asyncio.create_task(self._read())
        try:
            await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writing, reading):
                task.cancel()
            await asyncio.gather(writing, reading, return_exceptions=True)
            with self._core.state.condition:
                self._core.connecting.discard(self.node.name)
                self._core.runs.agent_lost(self.node, self)

    async def _write(self) -> None:
        while (message := await self._outbox.get()) is not None:
            await self._socket.send_bytes(message.encoded())
        await self._socket.close()

    async def _read(self) -> None:
        held: set[str] = set()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                message = Message.decoded(await self._socket.receive_bytes())
                with self._core.state.condition:
                    if message.verb == "hello":
                        held = {value for name, value in message.fields if name == "held"}
                        self._offer_jars()
                    elif message.verb == "ready":
                        self._come_online(held)
                    else:
                        self._hear(message)

    def _offer_jars(self) -> None:
        for jar in self._core.jars.values():
            self._post(Message("jar", jar.sha256, [("class", jar.class_name)]))
        self._post(Message("jars-end"))

    def _come_online(self, held: set[str]) -> None:
        """Unless it was deleted meanwhile."""
        self._core.connecting.discard(self.node.name)
        if self._core.state.nodes.get(self.node.name) is self.node:
            self._core.runs.agent_online(self.node, self, held)
        else:
            self.close()

    def _hear(self, message: Message) -> None:
        if message.verb == "need":
            self._core.jar_fetches.append((self.node.name, message.subject))
            self._core.state.condition.notify_all()
            self._post(Message("bytes", message.subject, body=self._core.jars[message.subject].content))
        elif message.verb == "out":
            self._core.runs.output(message.subject, message.body)
        elif message.verb == "end":
            self._core.runs.ended(message.subject, int(dict(message.fields)["code"]))
            self._post(Message("done", message.subject))


async def serve_agent(core: Core, scope: Scope, receive: Receive, send: Send) -> None:
    socket = WebSocket(scope, receive, send)
    await socket.receive()
    with core.state.condition:
        request = core.record_connect(scope)
        fault = core.faults.take(request.line)
        refusal = jetty(fault.status or 403) if fault else _refusal(core, socket)
        request.status = refusal.status_code if refusal else 101
        if refusal is None:
            agent = SocketAgent(core, core.state.nodes[socket.headers["node-name"]], socket)
            core.connecting.add(agent.node.name)
            core.sockets[agent.node.name] = tuple(scope["client"])
    if refusal is not None:
        await socket.send_denial_response(refusal)
        await receive()
        await receive()  # until it is closed: to return before would be taken for a mistake
        return
    try:
        await socket.accept(headers=[(b"x-remoting-capability", b"simulated")])
        await agent.talk()
    finally:
        with core.state.condition:
            core.connecting.discard(agent.node.name)


def _refusal(core: Core, socket: WebSocket) -> Response | None:
    """An unknown name, a wrong secret and a second agent for a node all look the same to an agent."""
    if core.phase != "ready":
        return core.answers.starting()
    name, secret = socket.headers.get("node-name"), socket.headers.get("secret-key")
    if socket.url.path.rstrip("/") != "/wsagents" or name is None or secret is None:
        return jetty(400, "This endpoint is only for use from agent.jar in WebSocket mode")
    node = core.state.nodes.get(name)
    if node is None or node.ghost:
        return jetty(400, "no such agent")
    if secret != core.secret_of(name):
        return jetty(403)
    if node.agent is not None or name in core.connecting:
        return jetty(403, f"{name} is already connected to this controller. Rejecting this connection.")
    return None
