"""Sibling itself, as its users meet it: a process of its own, called over HTTP by a standard library client."""

from __future__ import annotations

import http.client
import json
import time
from typing import TYPE_CHECKING, Any

from bench.floor import Times

if TYPE_CHECKING:
    from tests.e2e.harness import ServiceProcess


class Client:
    """One user with one warm connection."""

    def __init__(self, service: ServiceProcess) -> None:
        self._headers = {"Authorization": f"Bearer {service.token}", "Content-Type": "application/json"}
        self._warm = http.client.HTTPConnection("127.0.0.1", int(service.url.rpartition(":")[2]))
        self.ask("GET", "/v1/builds?limit=1")

    def run(self, request: dict[str, Any]) -> Times:
        """One build: posted, followed to the end of its log, its result read."""
        begin = time.perf_counter()
        build = self.ask("POST", "/v1/builds", request)["id"]
        answer = self._follow(build)
        answer.read(1)
        first = time.perf_counter()
        answer.read()
        build = self.finished(build)
        done = time.perf_counter()
        if build["result"] != "SUCCESS":
            raise RuntimeError(f"{build}")
        return Times(first=first - begin, done=done - begin)

    def follow_rate(self, request: dict[str, Any]) -> float:
        """Bytes per second of a build's log as a follower sees it, from the first byte to the last."""
        build = self.ask("POST", "/v1/builds", request)["id"]
        answer = self._follow(build)
        buffer, size = bytearray(1 << 20), len(answer.read(1))
        begin = time.perf_counter()
        while got := answer.readinto(buffer):
            size += got
        seconds = time.perf_counter() - begin
        self.finished(build)
        return size / seconds

    def submit(self, request: dict[str, Any]) -> str:
        """Post a build and return its id."""
        return str(self.ask("POST", "/v1/builds", request)["id"])

    def finished(self, build: str) -> dict[str, Any]:
        """The build at its end."""
        while True:
            record: dict[str, Any] = self.ask("GET", f"/v1/builds/{build}?wait=30s")
            if record["state"] == "finished":
                return record

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request on the warm connection."""
        self._warm.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = self._warm.getresponse()
        content = json.loads(answer.read())
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {content}")
        return content

    def _follow(self, build: str) -> http.client.HTTPResponse:
        self._warm.request("GET", f"/v1/builds/{build}/log?follow=true", headers=self._headers)
        return self._warm.getresponse()
