"""What one simulated controller is made of, and the changes that concern several of its parts."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING, Literal

from . import node_xml
from .access import Access
from .answers import Answers
from .faults import Faults, Request
from .runs import Runs
from .state import State
from .waiting import Queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response
    from starlette.types import Scope

    from .agent_jar import CachedJar
    from .things import Job, Node

Phase = Literal["down", "starting", "unauthorized", "ready"]


class Core:
    """Everything here is used under `state.condition`."""

    def __init__(self) -> None:
        self.state = State()
        self.runs = Runs(self.state)
        self.queue = Queue(self.state, self.runs)
        self.access = Access()
        self.faults = Faults()
        self.requests: list[Request] = []
        self.answers = Answers(secrets.token_hex(4))
        self.phase: Phase = "down"
        self.url = ""
        self.agent_jar: Callable[[], bytes] = lambda: b""
        self.jars: dict[str, CachedJar] = {}  # what agents load classes from, by SHA-256
        self.jar_fetches: list[tuple[str, str]] = []  # which node fetched which
        self.connecting: set[str] = set()  # nodes whose agent has shaken hands, but is not ready
        self.sockets: dict[str, tuple[str, int]] = {}  # where each node's last agent came from
        self._key = secrets.token_bytes(32)

    def set_phase(self, phase: Phase) -> None:
        with self.state.condition:
            self.phase = phase
            self.state.changed()

    def begin_session(self, url: str) -> None:
        """What is new with each start."""
        self.url = self.runs.url = url
        self.answers = Answers(secrets.token_hex(4))
        self.access.forget_sessions()
        self.state.quiet = None

    def record_connect(self, scope: Scope) -> Request:
        """An agent's handshake counts as a request: "CONNECT /wsagents/NODE"."""
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        node = headers.get("node-name", "?")
        request = Request("CONNECT", scope["path"] + node, node, self.state.clock.now(), headers)
        self.requests.append(request)
        self.state.condition.notify_all()
        return request

    def session_of(self, headers: dict[str, str]) -> str:
        """The session of the request's cookie, or a new one."""
        found = re.search(rf"{re.escape(self.answers.cookie)}=([\w.]+)", headers.get("cookie", ""))
        return found[1] if found else f"node0{secrets.token_hex(12)}.node0"

    def give_session(self, answer: Response, headers: dict[str, str], session: str) -> None:
        """Set the cookie of a session, unless the client has it."""
        cookie = f"{self.answers.cookie}={session}"
        if cookie not in headers.get("cookie", ""):
            answer.headers["Set-Cookie"] = f"{cookie}; Path=/; HttpOnly; SameSite=Lax"

    def secret_of(self, node: str) -> str:
        """Depends on the name only, so that it is the same again for a node made anew."""
        return hmac.new(self._key, node.encode(), hashlib.sha256).hexdigest()

    def add_node(self, node: Node) -> None:
        self.state.nodes[node.name] = node
        self.state.changed()

    def reconfigure_node(self, node: Node, text: str) -> None:
        """Another name in it renames the node."""
        before = node.name
        node_xml.configure(node, text)
        if node.name != before:
            self.state.nodes = {other.name: other for other in self.state.nodes.values()}
        self.state.changed()

    def delete_job(self, job: Job) -> None:
        for item in self.state.queued():
            if item.job is job and not item.is_part:
                self.runs.cancel(item)
        for build in list(job.builds.values()):
            self.runs.stop(build, "SYSTEM")
        for inner in [inner for name, inner in self.state.jobs.items() if name.startswith(f"{job.name}/")]:
            self.delete_job(inner)
        del self.state.jobs[job.name]
        self.state.changed()

    def detach_agents(self) -> None:
        """The connections go with the process, which remembers nothing of why."""
        for node in self.state.nodes.values():
            node.agent = node.lost = None
            node.held = set()
        self.state.leaving.clear()

    def empty_queue(self, *, kill: bool) -> None:
        """What is left of the queue after a stop: a kill loses all of it, a good end only what had left it."""
        self.state.items = {} if kill else {item.id: item for item in self.state.queued()}
