"""A Sibling service made of data: what each build's log does, what is refused, which answers are lost on the way.

It speaks the HTTP API v1 over a real socket (TCP, TLS or Unix) and remembers what it was asked.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import socketserver
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

AT = "2026-03-01T10:00:00.250Z"
SOURCE_ID = "src-" + "0" * 32


@dataclass(frozen=True)
class Say:
    """The build writes."""

    data: bytes
    stream: str = "stdout"


@dataclass(frozen=True)
class Cut:
    """The connection that gets here is cut off, the first time, after `inside` bytes of what comes next."""

    inside: int = 0


@dataclass(frozen=True)
class EndStream:
    """The stream that gets here ends in good order, the first time, as when the service is restarted."""


@dataclass(frozen=True)
class UntilCancelled:
    """The build hangs until it is cancelled."""


@dataclass(frozen=True)
class UntilReleased:
    """The build hangs until the test calls `FakeBuild.release.set()`."""


Step = Say | Cut | EndStream | UntilCancelled | UntilReleased


@dataclass
class FakeBuild:
    """What one build does, and what it was asked to."""

    steps: tuple[Step, ...] = ()
    result: str = "SUCCESS"
    exit_code: int | None = 0
    reason: str | None = None
    message: str | None = None
    artifacts: dict[str, bytes] = field(default_factory=dict)
    image_build: dict[str, Any] | None = None  # what the build of an image made
    state: str = "queued"
    id: str = ""
    request: dict[str, Any] = field(default_factory=dict)
    page: int = 1024**2  # most bytes of one answer without follow
    artifact_cuts: dict[str, int] = field(default_factory=dict)  # bytes after which the first download is cut off
    done: set[int] = field(default_factory=set)  # cuts that have happened
    cancelled: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def log(self) -> bytes:
        return b"".join(step.data for step in self.steps if isinstance(step, Say))

    def as_json(self) -> dict[str, Any]:
        ended = self.finished.is_set()
        aborted = self.cancelled.is_set()
        return {
            "id": self.id,
            "state": "finished" if ended else self.state,
            "image": self.request.get("image", "busybox"),
            "image_id": "sha256:" + "a" * 64,
            "created_by": "tester",
            "created_at": "2026-03-01T10:00:00Z",
            "started_at": "2026-03-01T10:00:01.5Z",
            "finished_at": "2026-03-01T10:00:03.200Z" if ended else None,
            "result": ("ABORTED" if aborted else self.result) if ended else None,
            "reason": ("cancelled" if aborted else self.reason) if ended else None,
            "message": ("Cancelled by tester." if aborted else self.message) if ended else None,
            "exit_code": (None if aborted else self.exit_code) if ended else None,
            "cancel_requested": aborted,
            "phases": {"queued": 0.01, "source": 0.1, "run": 3.0} if ended else {},
            "artifacts": [{"path": path, "size": len(data)} for path, data in self.artifacts.items()] if ended else [],
            "log_size": len(self.log),
            "request": self.request,
            "labels": self.request.get("labels", {}),
            "image_build": self.image_build if ended else None,
            "links": {"self": f"/v1/builds/{self.id}", "log": f"/v1/builds/{self.id}/log", "artifacts": None},
        }

    def play(self, start: int) -> Iterator[tuple[Say, int] | Cut]:
        """What a follower from byte `start` gets to the build's end: pieces with the offset after them, and cuts."""
        offset = 0
        for index, step in enumerate(self.steps):
            if isinstance(step, Say):
                rest = step.data[max(0, start - offset) :]
                offset += len(step.data)
                if rest:
                    yield Say(rest, step.stream), offset
            elif isinstance(step, UntilCancelled):
                self.cancelled.wait()
            elif isinstance(step, UntilReleased):
                self.release.wait()
            elif index not in self.done:
                self.done.add(index)
                if isinstance(step, EndStream):
                    return
                yield step
        self.finished.set()

    def cancel(self) -> None:
        """A build that waits for nothing else ends at once, followed or not."""
        self.cancelled.set()
        if self.release.is_set() or UntilReleased() not in self.steps:
            self.finished.set()


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; `connection` numbers the connections."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass(frozen=True)
class Answer:
    """A fixed answer, instead of what the API would say."""

    status: int
    body: object
    headers: dict[str, str] = field(default_factory=dict)
    read_body: bool = True


class BuildServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """The service. `builds` are handed out to POSTs in order; `answers` and `lost` are keyed by "METHOD /path"."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, *builds: FakeBuild, path: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.waiting = list(builds)
        self.builds: dict[str, FakeBuild] = {}
        self.keys: dict[str, str] = {}
        self.asked: list[Asked] = []
        self.answers: dict[str, list[Answer]] = {}  # each used once, in order
        self.lost: dict[str, int] = {}  # how many answers are lost after the request was carried out
        self.held: dict[str, threading.Event] = {}  # answers that wait for an event
        self.arrived = threading.Condition()
        self.connections = 0
        self._tls = tls
        if path is not None:
            self.address_family = socket.AF_UNIX
        super().__init__(str(path) if path else ("127.0.0.1", 0), _Handler)  # type: ignore[arg-type]
        host = f"unix://{path}" if path else f"127.0.0.1:{self.server_address[1]}"
        self.url = host if path else f"{'https' if tls else 'http'}://{host}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for build in self.builds.values():
            build.cancelled.set()
            build.release.set()
            build.finished.set()
        self.shutdown()
        self.server_close()

    def add(self, build: FakeBuild) -> FakeBuild:
        """Make the build known as if it had been posted."""
        build.id = build.id or f"01build{len(self.builds):019}"
        self.builds[build.id] = build
        return build

    def wait_for(self, method: str, path_end: str, times: int = 1) -> list[Asked]:
        """Block until so many requests of the kind have arrived, and give them."""

        def found() -> list[Asked]:
            return [each for each in self.asked if each.method == method and each.path.endswith(path_end)]

        with self.arrived:
            if not self.arrived.wait_for(lambda: len(found()) >= times, 20):
                raise AssertionError(f"no {method} ...{path_end}; asked: {[(a.method, a.path) for a in self.asked]}")
        return found()

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        self.connections += 1
        if self.address_family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, (self.connections, address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave in mid-answer are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BuildServer

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        key = f"{self.command} {parts.path}"
        fixed = self.server.answers[key].pop(0) if self.server.answers.get(key) else None
        body = self._body() if fixed is None or fixed.read_body else b""
        query = parse_qs(parts.query)
        asked = Asked(self.command, parts.path, query, dict(self.headers), body, int(self.client_address[0]))
        with self.server.arrived:
            self.server.asked.append(asked)
            self.server.arrived.notify_all()
        if fixed is not None:
            self._send(fixed)
            return
        answer = self._answer(asked)
        if key in self.server.held:
            self.server.held[key].wait()
        if self.server.lost.get(key, 0) > 0:
            self.server.lost[key] -= 1
            self._hang_up()
        elif answer is not None:
            self._send(answer)

    do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = io.BytesIO()
        while size := int(self.rfile.readline(), 16):
            body.write(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return body.getvalue()

    def _answer(self, asked: Asked) -> Answer | None:
        parts = asked.path.split("/")[2:]
        match [asked.method, *parts]:
            case ["PUT", "sources"]:
                return Answer(201, {"id": SOURCE_ID, "size": len(asked.body), "files": 1, "unpacked_size": 1})
            case ["POST", "builds"] | ["POST", "images", "builds" | "pushes"]:
                return self._create(asked)
            case ["GET", "builds"]:
                return self._list(asked)
            case [_, "builds", build_id, *_] if build_id in self.server.builds:
                return self._of_build(self.server.builds[build_id], asked, parts[2:])
        return Answer(404, {"title": "Not Found", "status": 404, "detail": f"There is no build {parts[1]}"})

    def _of_build(self, build: FakeBuild, asked: Asked, parts: list[str]) -> Answer | None:
        match [asked.method, *parts]:
            case ["GET"]:
                build.finished.wait(float(asked.query.get("wait", ["0s"])[0].rstrip("s")))
                return Answer(200, build.as_json())
            case ["POST", "cancel"]:
                return self._cancel(build)
            case ["GET", "log"]:
                return self._log(build, asked)
            case ["GET", "artifacts", *path]:
                return self._artifact(build, unquote("/".join(path)))
        return Answer(405, {"title": "Method Not Allowed", "status": 405})

    def _create(self, asked: Asked) -> Answer:
        key = asked.headers.get("Idempotency-Key", "")
        if key in self.server.keys:
            return Answer(200, self.server.builds[self.server.keys[key]].as_json(), {"Idempotency-Replayed": "true"})
        build = self.server.add(self.server.waiting.pop(0))
        build.request = json.loads(asked.body)
        self.server.keys[key] = build.id
        return Answer(201, build.as_json(), {"Location": f"/v1/builds/{build.id}"})

    def _list(self, asked: Asked) -> Answer:
        states = asked.query.get("state")
        builds = [build.as_json() for build in reversed(self.server.builds.values())]
        builds = [build for build in builds if states is None or build["state"] in states]
        start = int(asked.query.get("cursor", ["0"])[0])
        end = start + int(asked.query.get("limit", ["50"])[0])
        return Answer(200, {"builds": builds[start:end], "next": str(end) if end < len(builds) else None})

    def _cancel(self, build: FakeBuild) -> Answer:
        if build.finished.is_set():
            return Answer(200, build.as_json())
        build.cancel()
        return Answer(202, {**build.as_json(), "state": "running"})

    def _log(self, build: FakeBuild, asked: Asked) -> Answer | None:
        start = int(asked.query.get("start", ["0"])[0])
        if start > len(build.log):
            return Answer(416, {"title": "Range Not Satisfiable", "status": 416})
        if "text/event-stream" in asked.headers.get("Accept", ""):
            self._stream(build, start, "text/event-stream")
            return None
        if asked.query.get("follow") == ["true"]:
            self._stream(build, start, "text/plain; charset=utf-8")
            return None
        data = build.log[start : start + build.page]
        end = start + len(data)
        more = end < len(build.log) or not build.finished.is_set()
        return Answer(200, data, {"X-Text-Size": str(end), **({"X-More-Data": "true"} if more else {})})

    def _stream(self, build: FakeBuild, start: int, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        as_sent = _event if kind == "text/event-stream" else _plain
        cut: Cut | None = None
        for item in build.play(start):
            if isinstance(item, Cut):
                cut = item
                if cut.inside:
                    continue
            else:
                data = as_sent(*item)
                self.wfile.write(b"%X\r\n%s" % (len(data), data[: cut.inside] if cut else data + b"\r\n"))
            if cut:
                self._hang_up()
                return
        if kind == "text/event-stream" and build.finished.is_set():
            end = f"event: end\ndata: {json.dumps(build.as_json())}\n\n".encode()
            self.wfile.write(b"%X\r\n%s\r\n" % (len(end), end))
        self.wfile.write(b"0\r\n\r\n")

    def _artifact(self, build: FakeBuild, path: str) -> Answer | None:
        data = build.artifacts[path]
        begin = int(self.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        cut = build.artifact_cuts.pop(path, None)
        if cut is None:
            return Answer(206 if begin else 200, data[begin:])
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:cut])
        self._hang_up()
        return None

    def _send(self, answer: Answer) -> None:
        raw = isinstance(answer.body, bytes)
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        kind = "application/problem+json" if answer.status >= 400 else "application/json"
        for name, value in {"Content-Type": "text/plain" if raw else kind, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if not answer.read_body:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def _plain(piece: Say, _: int) -> bytes:
    return piece.data


def _event(piece: Say, offset: int) -> bytes:
    data = {"text": piece.data.decode("utf-8", "replace"), "stream": piece.stream, "at": AT}
    return f": keep-alive\n\nevent: log\nid: {offset}\ndata: {json.dumps(data)}\n\n".encode()
