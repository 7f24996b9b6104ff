"""The gate against the engine's own socket, in turn: the same commands of Docker's, and the same calls."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import statistics
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.gate.gate import Gate
from agent.gate.journal import Journal
from agent.gate.policy import GatePolicy
from agent.gate.upstream import Upstream
from agent.unix_socket import listen
from tests.e2e.gate_process import GateProcess
from tests.e2e.harness import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[str], object]

_SIZE = 500 * 1024**2
_BOX, _IMAGE = "bench-box", "bench-image"
_POLICY = """\
images = ["sibling-test/busybox:1"]
workspace = "/workspace:{workspace}"
[builder]
image = "sibling-test/dind:1"
"""
_DOCKERFILE = f"FROM {BUSYBOX}\nRUN head -c 20000000 /dev/urandom >/file\nARG ROUND\nRUN echo $ROUND\n"


def gate(host: str, rounds: int) -> dict[str, Any]:
    """`docker run`, builds, half a gigabyte out of an exec and by `docker cp`, an inspect; and how soon one is open."""
    opened = GateProcess(host, "bench", _POLICY)
    try:
        opened.start()
        ours = f"unix://{opened.socket}"
        for side, name in ((host, f"{_BOX}-raw"), (ours, _BOX)):
            _docker(side, "run", "-d", "--name", name, BUSYBOX, "sleep", "3600")
            _docker(side, "exec", name, "sh", "-c", f"head -c {_SIZE} /dev/zero >/file")
        names = {host: f"{_BOX}-raw", ours: _BOX}
        sides = (host, ours)
        run = _ratio(sides, rounds, lambda side: _docker(side, "run", "--rm", BUSYBOX, "true"))
        exec_ = _ratio(sides, 3, lambda side: _docker(side, "exec", names[side], "head", "-c", str(_SIZE), "/dev/zero"))
        copy = _ratio(sides, 3, lambda side: _docker(side, "cp", f"{names[side]}:/file", "-"))
        inspect = [_inspects(side, names[side]) for side in sides]
        cached = _ratio(sides, rounds, lambda side: _build(side, 0))
        numbers = count(1)
        changed = _ratio(sides, rounds, lambda side: _build_and_run(side, next(numbers)))
    finally:
        _docker(host, "rm", "-f", f"{_BOX}-raw")
        _docker(host, "rmi", "-f", _IMAGE)
        opened.destroy()
    return {
        "run_ratio": run,
        "exec_throughput": 1 / exec_,
        "cp_throughput": 1 / copy,
        "build_cached_ratio": cached,
        "build_and_run_ratio": changed,
        "inspect_ms": [1000 * each for each in inspect],
        "inspect_more_ms": 1000 * (inspect[1] - inspect[0]),
        "open_ms": 1000 * statistics.median(asyncio.run(_opens(host))),
    }


async def _opens(host: str) -> list[float]:
    """Seconds that a gate takes until it answers, as the service opens one when a build starts."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(100):
            begin = time.perf_counter()
            path = Path(folder) / f"{number}.sock"
            made = Gate(
                build=f"b{number}",
                policy=GatePolicy(),
                upstream=Upstream.at(host),
                journal=Journal(Path(folder) / f"{number}.journal"),
            )
            await made.open(await asyncio.to_thread(listen, path, 0o600))
            taken.append(time.perf_counter() - begin)
            await made.close()
    return taken


def _ratio(sides: tuple[str, str], rounds: int, work: Work) -> float:
    """The median of the second side's seconds over the first's; each is as often the first, and one round warms up."""
    ratios = []
    for number in range(rounds + 1):
        taken = {side: _seconds(work, side) for side in (sides if number % 2 else sides[::-1])}
        ratios.append(taken[sides[1]] / taken[sides[0]])
    return statistics.median(ratios[1:])


def _seconds(work: Work, side: str) -> float:
    begin = time.perf_counter()
    work(side)
    return time.perf_counter() - begin


def _docker(side: str, *words: str, text: str = "") -> None:
    environment = {**os.environ, "DOCKER_HOST": side}
    subprocess.run(["docker", *words], env=environment, input=text, text=True, stdout=subprocess.DEVNULL, check=True)


def _build(side: str, number: int) -> None:
    """With the same number as before there is nothing to do; with another the last step is done."""
    _docker(side, "build", "-q", "-t", _IMAGE, "--build-arg", f"ROUND={number}", "-", text=_DOCKERFILE)


def _build_and_run(side: str, number: int) -> None:
    """An image of 22 MB, which a gate takes over from its builder."""
    _build(side, number)
    _docker(side, "run", "--rm", _IMAGE, "true")


def _inspects(side: str, name: str) -> float:
    """Seconds of the median inspect, on one kept-alive connection."""
    connection = http.client.HTTPConnection("docker")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(side.removeprefix("unix://"))
    taken = []
    for _ in range(200):
        begin = time.perf_counter()
        connection.request("GET", f"/v1.45/containers/{name}/json")
        connection.getresponse().read()
        taken.append(time.perf_counter() - begin)
    connection.close()
    return statistics.median(taken)
