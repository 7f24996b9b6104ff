"""A proxy before a registry that does, by data, what networks and registries do on their bad days.

What `docker push` then says and does, measured with Engine 26.1.5 and Distribution 2.8.2 on 2026-11-27:

- It tries the upload of a layer five times, after 5, 10, 15 and 20 seconds (`Retrying in 5 seconds`), so a fault that
  stays shows after 50 s, as the last error. That is for connections that are cut, for 500 and 503, for an error code
  that it does not know, and if 503 answers whether the layer is there already (HEAD).
- An upload that is answered UNAUTHORIZED, DENIED, NAME_UNKNOWN or TOOMANYREQUESTS ends the push at once.
- It never tries again the upload of the image's configuration, which follows the layers, nor the PUT of the manifest.
  `Retry-After: 1` at the latter changes nothing.
- Errors are `denied: MESSAGE`, with the code in lower case, for 4xx and `received unexpected HTTP status: 503 Service
  Unavailable` for 5xx. For what is cut they are `Put "http://HOST/v2/NAME/manifests/TAG": EOF`; of a layer `EOF`,
  `write tcp A->B: write: broken pipe` or `write tcp A->B: use of closed network connection`; of the configuration
  `Patch "URL": EOF`, whose URL ends with the upload's `_state`.
- A GET of /v2/ that is answered 401, 403 or 503 does no harm, if nothing else is.
"""

import json
import math
import re
import socket
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from tests.fakes.docker_proxy import one_request, read_head

ALWAYS = math.inf
_PIECE = 16 * 1024
_TLS_HANDSHAKE = 0x16
_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN", 429: "TOOMANYREQUESTS"}  # of OCI's distribution spec


@dataclass
class Fault:
    """What happens to the next `times` requests that match; `path` is searched in what follows /v2/.

    With a `status` the registry is never asked, and the answer is an error as registries write them, with `message`.
    Otherwise `rate` is the bytes per second each way, and `cut_after` ends the connection after so many bytes of the
    request's body, or of the answer's if it is a GET; what has no body is not cut. Chunks count with their sizes.
    With none of them the request passes, so that the next fault in line meets the next request.
    """

    method: str = ".*"
    path: str = ""
    status: int | None = None
    message: str = "the proxy says no"
    headers: dict[str, str] = field(default_factory=dict)
    rate: float | None = None
    cut_after: int | None = None
    times: float = 1

    def matches(self, method, path):
        return self.times > 0 and re.fullmatch(self.method, method) and re.search(self.path, path)


def manifest_put(**fault) -> Fault:
    """A fault of what ends a push: the tag gets its manifest."""
    return Fault("PUT", "/manifests/", **fault)


def blob_upload(**fault) -> Fault:
    """A fault of the requests with the bytes of a layer or of an image's configuration."""
    return Fault("PATCH", "/blobs/uploads/", **fault)


class FaultProxy:
    """Listens at `address` on loopback while it is entered; `upstream` is the address of a registry that speaks http.

    `requests` is what was asked for, without queries: `PUT x/manifests/1`.
    """

    def __init__(self, upstream: str, *faults: Fault) -> None:
        self.faults = list(faults)
        self.requests: list[str] = []
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        # The kernel would else take megabytes for us, and nothing be slow.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes who waits for it
        self._listener.close()

    def _serve(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._handle, args=(client,), daemon=True).start()

    def _handle(self, client):
        with ExitStack() as stack, suppress(OSError):
            self._keep(stack, client)
            if client.recv(1, socket.MSG_PEEK) == bytes([_TLS_HANDSHAKE]):
                return  # Docker tries https first
            head, rest = read_head(client)
            if not head:
                return
            method, target = head.decode().split(" ", 2)[:2]
            fault = self._note(method, target.removeprefix("/v2/"))
            if fault.status is not None:
                _refuse(client, fault)
                return
            upstream = socket.create_connection(self._upstream)
            self._keep(stack, upstream)
            upstream.sendall(one_request(head))
            reads = method == "GET"
            threading.Thread(
                target=self._copy,
                args=(client, upstream, fault.rate, None if reads else fault.cut_after, rest),
                daemon=True,
            ).start()
            head, rest = read_head(upstream)
            client.sendall(head)
            self._copy(upstream, client, fault.rate, fault.cut_after if reads else None, rest)

    def _copy(self, source, target, rate, cut_after, first):
        """Copy to the end and tell the target that it was all; or so many bytes, and then end both connections."""
        most = max(1, int(rate / 10)) if rate else _PIECE
        left = math.inf if cut_after is None else cut_after
        with suppress(OSError):
            piece = first or source.recv(most)
            while piece and left > 0:
                piece = piece[: int(min(left, len(piece)))]
                if rate:
                    self._ended.wait(len(piece) / rate)
                target.sendall(piece)
                left -= len(piece)
                piece = left > 0 and source.recv(most)
            target.shutdown(socket.SHUT_WR if left > 0 else socket.SHUT_RDWR)
            if left <= 0:
                source.shutdown(socket.SHUT_RDWR)

    def _keep(self, stack, each):
        stack.enter_context(each)
        self._open.add(each)
        stack.callback(self._open.discard, each)

    def _note(self, method, path):
        with self._lock:
            self.requests.append(f"{method} {path.partition('?')[0]}")
            fault = next((fault for fault in self.faults if fault.matches(method, path)), Fault())
            fault.times -= 1
            return fault


def _refuse(client, fault):
    """Answer, then take what still comes: a connection that is closed upon unread bytes loses the answer."""
    error = {"code": _CODES.get(fault.status, "UNKNOWN"), "message": fault.message}
    body = json.dumps({"errors": [error]}).encode()
    headers = {
        "Content-Type": "application/json",
        "Docker-Distribution-Api-Version": "registry/2.0",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **fault.headers,
    }
    lines = [f"HTTP/1.1 {fault.status} {HTTPStatus(fault.status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    client.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    client.shutdown(socket.SHUT_WR)
    while client.recv(_PIECE):
        pass
