"""The floor: what one build costs with the standard library alone, over one warm connection to the engine.

Create, attach, start, read to the end, wait, remove. Nothing is stored, decided or told to anyone.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

API = "/v1.45"


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds from the request: to the first byte of output, and to the result."""

    first: float
    done: float


class Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("docker")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class Floor:
    """Runs builds one after another; make one for each thread."""

    def __init__(self, docker_host: str) -> None:
        self._path = docker_host.removeprefix("unix://")
        self._warm = Unix(self._path)
        self.ask("GET", "/_ping")

    def run(self, body: dict[str, Any], stdin: bytes | None) -> Times:
        """One build. `stdin` is sent before the start if the body opens it."""
        begin = time.perf_counter()
        container = self.ask("POST", "/containers/create", body)["Id"]
        attached, reader = self._attach(container, stdin)
        self.ask("POST", f"/containers/{container}/start")
        first = self._read_all(reader)
        attached.close()
        self.ask("POST", f"/containers/{container}/wait")
        self.ask("DELETE", f"/containers/{container}?v=1&force=1")
        return Times(first=first - begin, done=time.perf_counter() - begin)

    def attach_rate(self, body: dict[str, Any], stdin: bytes) -> float:
        """Bytes per second of a container's output over a raw attach, from its first byte to its last."""
        container = self.ask("POST", "/containers/create", body)["Id"]
        attached, reader = self._attach(container, stdin)
        self.ask("POST", f"/containers/{container}/start")
        buffer, size = bytearray(1 << 20), reader.readinto1(bytearray(1))
        begin = time.perf_counter()
        while got := reader.readinto1(buffer):
            size += got
        seconds = time.perf_counter() - begin
        attached.close()
        self.ask("DELETE", f"/containers/{container}?v=1&force=1")
        return size / seconds

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request on the warm connection."""
        data = None if body is None else json.dumps(body)
        self._warm.request(method, API + path, data, {"Content-Type": "application/json"})
        answer = self._warm.getresponse()
        content = answer.read()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {answer.status} {content!r}")
        return json.loads(content) if content.startswith(b"{") else content

    def _attach(self, container: str, stdin: bytes | None) -> tuple[Unix, Any]:
        attached = Unix(self._path)
        query = "stream=1&stdout=1&stderr=1" + ("&stdin=1" if stdin is not None else "")
        attached.request(
            "POST", f"{API}/containers/{container}/attach?{query}", headers={"Connection": "Upgrade", "Upgrade": "tcp"}
        )
        wire = attached.sock
        reader = attached.getresponse().fp
        if stdin is not None:
            wire.sendall(stdin)
            wire.shutdown(socket.SHUT_WR)
        return attached, reader

    @staticmethod
    def _read_all(reader: Any) -> float:
        """Read every frame; when the first byte of output came."""
        header = reader.read(8)
        first = time.perf_counter()
        while header:
            reader.read(struct.unpack(">4xI", header)[0])
            header = reader.read(8)
        return first
