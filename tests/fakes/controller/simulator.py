"""The simulated controller: its life, who may call, and what goes wrong."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Self

from .access import ADMINISTER
from .agent_jar import AgentJar
from .app import App
from .core import Core
from .handles import Handles
from .server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from .access import User
    from .core import Phase
    from .faults import Faults

NETNS_PORT = 8080


class Simulator(Handles):
    """A Jenkins controller on a thread of its own; serves while it is entered, or from `start` to `close`.

    With `netns_pid` it listens on 0.0.0.0:8080 inside the network namespace of that process, and `public_url` says how
    it is reached there. `cache` is a folder for the compiled agent.
    """

    def __init__(
        self,
        *,
        user: str = "admin",
        token: str | None = None,
        password: str = "admin",
        permissions: Iterable[str] = (ADMINISTER,),
        host: str | None = None,
        port: int | None = None,
        public_url: str | None = None,
        netns_pid: int | None = None,
        cache: Path | None = None,
    ) -> None:
        if netns_pid is not None and public_url is None:
            raise ValueError("public_url is needed: how is the controller reached in its namespace?")
        self.core = Core()
        self.user = user
        self.token = token or "11" + secrets.token_hex(16)
        self.core.access.add(user, password=password, token=self.token, permissions=set(permissions))
        self._public_url = public_url
        app = App(self.core)
        self._server = app.server = Server(
            app,
            host=host or ("127.0.0.1" if netns_pid is None else "0.0.0.0"),
            port=(0 if netns_pid is None else NETNS_PORT) if port is None else port,
            netns_pid=netns_pid,
        )
        self.core.state.later = self._server.later
        self._agent = AgentJar(cache)
        self.core.agent_jar = self._agent.content

    # life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Ends in `/`. It stays the same over restarts."""
        self._server.open()
        return self._public_url or f"http://127.0.0.1:{self._server.port}/"

    @property
    def session(self) -> str:
        """X-Jenkins-Session, another one after each start."""
        return self.core.answers.session

    def start(self, *, starting: float = 0.0, unauthorized: float = 0.0, wait: bool = True) -> None:
        """Listen; first, for so many seconds each, answer 503 to everything, then 401 to whoever has a token."""
        url = self.url
        phases: Sequence[tuple[Phase, float]] = (("starting", starting), ("unauthorized", unauthorized))
        coming = [(phase, seconds) for phase, seconds in phases if seconds]
        with self.lock:
            self.core.begin_session(url)
            self.core.phase = coming[0][0] if coming else "ready"
            self.core.runs.resume()
            self.lock.notify_all()
        self._server.start()
        self._schedule(coming)
        self.core.queue.rearm()
        if wait:
            self.wait(lambda: self.core.phase == "ready", timeout=starting + unauthorized + 10)

    def _schedule(self, coming: Sequence[tuple[Phase, float]]) -> None:
        passed = 0.0
        following: list[Phase] = [*(phase for phase, _ in coming[1:]), "ready"]
        for (_, seconds), phase in zip(coming, following, strict=bool(coming)):
            passed += seconds
            self._server.later(passed, lambda phase=phase: self.core.set_phase(phase))

    def stop(self, *, kill: bool = False) -> None:
        """End as on SIGTERM, or as on SIGKILL: connections are refused from now on, and all that there were are cut."""
        with self.lock:
            self.core.phase = "down"
            self.core.detach_agents()
            self.core.runs.suspend(kill=kill)
            self.core.empty_queue(kill=kill)
            self.lock.notify_all()
        self._server.stop()

    def restart(
        self,
        kill: bool = False,
        *,
        refused: float = 0.2,
        starting: float = 0.2,
        unauthorized: float = 0.0,
    ) -> None:
        """Stop, be away for `refused` seconds, and start as `start` does. Returns when all is as usual again."""
        self.stop(kill=kill)
        self.pause(refused)
        self.start(starting=starting, unauthorized=unauthorized)

    def set_phase(self, phase: Phase) -> None:
        """Answer as in a phase of the start, until told otherwise."""
        self.core.set_phase(phase)

    def close(self) -> None:
        """For good."""
        if self.core.phase != "down":
            self.stop()
        self._server.close()

    # who may call

    @property
    def auth(self) -> tuple[str, str]:
        return self.user, self.token

    def add_user(
        self, name: str, permissions: Iterable[str] = (), *, password: str = "secret", token: str | None = None
    ) -> str:
        """Make another user. Returns their token."""
        token = token or "11" + secrets.token_hex(16)
        with self.lock:
            self.core.access.add(name, password=password, token=token, permissions=set(permissions))
        return token

    def revoke_token(self, user: str | None = None) -> None:
        with self.lock:
            self._user(user).tokens.clear()

    def restore_token(self, token: str | None = None, user: str | None = None) -> None:
        """Let a token in (again): the first user's own, unless another is given."""
        with self.lock:
            self._user(user).tokens.add(token or self.token)

    def grant(self, *permissions: str, user: str | None = None) -> None:
        with self.lock:
            self.core.access.check(set(permissions))
            self._user(user).permissions |= set(permissions)

    def revoke(self, *permissions: str, user: str | None = None) -> None:
        with self.lock:
            self._user(user).permissions -= set(permissions)

    def set_permissions(self, permissions: Iterable[str], user: str | None = None) -> None:
        with self.lock:
            self.core.access.check(set(permissions))
            self._user(user).permissions = set(permissions)

    def _user(self, name: str | None) -> User:
        return self.core.access.users[name or self.user]

    # what goes wrong

    @property
    def faults(self) -> Faults:
        """Scripted by data: `faults.add("POST /computer/.*/doDelete", status=500)`; see Fault."""
        return self.core.faults

    def drop_websockets(self, node: str | None = None) -> None:
        """Cut the agents' connections, or one node's, as a broken network does."""
        with self.lock:
            names = [node] if node else list(self.core.sockets)
            clients = [self.core.sockets[name] for name in names if name in self.core.sockets]
        for client in clients:
            self._server.soon(self._server.cut, client)

    # the agent's program

    def agent_jar(self) -> Path:
        """agent.jar on disk, compiled if it was not."""
        return self._agent.path()

    def serve_jars(self, count: int = 2) -> None:
        """Have agents load classes from so many jars, which they keep in their jar cache."""
        jars = self._agent.cached_jars(count)
        with self.lock:
            self.core.jars = {jar.sha256: jar for jar in jars}
