"""A proxy before a Docker Engine's socket that does, by data, what networks and engines do on their bad days."""

import json
import re
import socket
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

_HEAD_END = b"\r\n\r\n"
_PIECE = 64 * 1024


@dataclass
class Fault:
    """What happens to the next `times` requests that match; `path` is searched in what follows the API version.

    With a `status` the engine is never asked, and the answer is `body`, or Docker's JSON for errors with `message`.
    Otherwise `cut_after` ends the connection after so many bytes of the engine's body.
    """

    method: str = ".*"
    path: str = ""
    status: int | None = None
    message: str = "the proxy says no"
    body: bytes | None = None
    delay: float = 0
    cut_after: int | None = None
    times: int = 1

    def matches(self, method, path):
        return self.times > 0 and re.fullmatch(self.method, method) and re.search(self.path, path)


class DockerProxy:
    """Listens at `host` while it is entered. `requests` is what was asked for: `POST /containers/create?name=x`."""

    def __init__(self, path: Path, upstream: str, *faults: Fault) -> None:
        self.host = f"unix://{path}"
        self.faults = list(faults)
        self.requests: list[str] = []
        self._path = path
        self._upstream = upstream.removeprefix("unix://")
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._listener: socket.socket | None = None

    def __enter__(self):
        self.accept()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self.refuse()
        self.cut()

    def accept(self) -> None:
        """Take connections again."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._path))
        self._listener.listen(128)
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Take no new connection, as an engine that is down."""
        self._path.unlink(missing_ok=True)
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
            self._listener.close()
            self._listener = None

    def cut(self) -> None:
        """End all connections in the middle of whatever they do."""
        for each in tuple(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _serve(self, listener):
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._handle, args=(client,), daemon=True).start()

    def _handle(self, client):
        with ExitStack() as stack, suppress(OSError):
            self._keep(stack, client)
            head, rest = read_head(client)
            if not head:
                return
            method, target = head.split(b" ", 2)[:2]
            path = re.sub(r"^/v[\d.]+", "", target.decode())
            fault = self._note(method.decode(), path)
            if fault.delay:
                self._ended.wait(fault.delay)
            if fault.status is not None:
                _read_body(client, head, rest)
                client.sendall(_answer(fault))
                return
            upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._keep(stack, upstream)
            upstream.connect(self._upstream)
            upstream.sendall(one_request(head) + rest)
            threading.Thread(target=_copy, args=(client, upstream), daemon=True).start()
            head, rest = read_head(upstream)
            client.sendall(head)
            _copy(upstream, client, rest, fault.cut_after)

    def _keep(self, stack, each):
        stack.enter_context(each)
        self._open.add(each)
        stack.callback(self._open.discard, each)

    def _note(self, method, path):
        with self._lock:
            self.requests.append(f"{method} {path}")
            fault = next((fault for fault in self.faults if fault.matches(method, path)), Fault())
            fault.times -= 1
            return fault


def read_head(sock):
    """The head of a message with its empty line, and what of the body came along."""
    data = b""
    while _HEAD_END not in data:
        piece = sock.recv(_PIECE)
        if not piece:
            return b"", b""
        data += piece
    head, end, rest = data.partition(_HEAD_END)
    return head + end, rest


def _read_body(sock, head, rest):
    """Take all that the head announces, so that its sender gets to read an answer."""
    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    left = int(length[1]) - len(rest) if length else 0
    while left > 0:
        left -= len(sock.recv(_PIECE)) or left


def one_request(head):
    """The head with word to close the connection afterwards, so that each connection carries one request to match."""
    if b"\r\nupgrade:" in head.lower():
        return head
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([lines[0], b"Connection: close", *lines[1:]])


def _answer(fault):
    body = json.dumps({"message": fault.message}).encode() if fault.body is None else fault.body
    return (
        f"HTTP/1.1 {fault.status} {HTTPStatus(fault.status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body


def _copy(source, target, first=b"", limit=None):
    """Copy to the end, or so many bytes; then tell the target that it was all."""
    left = float("inf") if limit is None else limit
    with suppress(OSError):
        piece = first or source.recv(_PIECE)
        while piece and left > 0:
            piece = piece[: int(min(left, len(piece)))]
            target.sendall(piece)
            left -= len(piece)
            piece = left > 0 and source.recv(_PIECE)
        target.shutdown(socket.SHUT_WR if limit is None else socket.SHUT_RDWR)
