"""Sibling against its floor, in one run, interleaved, medians. Prints a table and writes bench/results.json."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from agent import policy, toolkit
from agent.builds import Build, BuildState
from agent.docker_engine import wire as docker_wire
from agent.requests import BuildRequest
from agent.settings import BuildSettings
from bench import agents, gate, images
from bench.floor import Floor, Times
from bench.service import Client
from tests.e2e.harness import BUSYBOX, ServiceProcess, until

if TYPE_CHECKING:
    from collections.abc import Callable

ECHO = {"image": BUSYBOX, "commands": ["echo hello"], "memory": "128m", "cpus": 1}
LOG_SIZE = 200_000_000
LOUD = ECHO | {"commands": [f"yes {'x' * 99} | head -c {LOG_SIZE}"]}
MIB = 1024**2


def main() -> None:
    """Run all parts that are asked for."""
    parts: dict[str, Callable[[str, int], dict[str, Any]]] = {
        "latency": latency,
        "throughput": throughput,
        "log": log,
        "memory": memory,
        "agents": agents.agents,
        "looks": agents.looks,
        "images": images.images,
        "gate": gate.gate,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help="which parts; all if none is named")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of the latency part (default: %(default)s)")
    given = parser.parse_args()
    host = os.environ["DOCKER_HOST"]
    results = {name: parts[name](host, given.rounds) for name in given.parts or parts}
    path = Path(__file__).with_name("results.json")
    path.write_text(json.dumps(results, indent=2) + "\n")
    show(results)


def latency(host: str, rounds: int) -> dict[str, Any]:
    """One build at a time: the floor with the same body, the plainest container, and Sibling, in turn."""
    with Service(host) as service:
        client, floor = Client(service), Floor(host)
        same, task = floor_body(service, ECHO)
        plain = {"Image": BUSYBOX, "Entrypoint": ["sh", "-c", "echo hello"]}
        runs: dict[str, list[Times]] = {"floor": [], "plain": [], "sibling": []}
        for round_ in range(rounds + 2):
            taken = {
                "floor": floor.run(with_workspace(service, same, round_), task),
                "plain": floor.run(plain, None),
                "sibling": client.run(ECHO),
            }
            until(lambda: not service.containers(), what="the removal of the container")
            if round_ >= 2:  # the first ones warm up
                for name, times in taken.items():
                    runs[name].append(times)
    medians = {
        name: {"first_ms": 1000 * median(t.first for t in times), "done_ms": 1000 * median(t.done for t in times)}
        for name, times in runs.items()
    }
    return medians | {
        "first_ratio": paired(runs, "first", "floor"),
        "done_ratio": paired(runs, "done", "floor"),
        "first_ratio_to_plain": paired(runs, "first", "plain"),
        "done_ratio_to_plain": paired(runs, "done", "plain"),
    }


def throughput(host: str, _: int) -> dict[str, Any]:
    """50 builds at once, against the floor program at its best concurrency, in turn."""
    count = 50
    with Service(host, queue__slots=8) as service:
        same, task = floor_body(service, ECHO)
        bodies = [with_workspace(service, same, number) for number in range(count)]
        tried = {n: count / seconds(lambda n=n: floor_many(host, bodies, task, n)) for n in (1, 2, 3, 4, 6)}
        best = max(tried, key=lambda n: tried[n])
        floor, ours = [], []
        for _ in range(5):
            floor.append(count / seconds(lambda: floor_many(host, bodies, task, best)))
            ours.append(count / seconds(lambda: many(service, count)))
            until(lambda: not service.containers(), what="the removal of all containers")
    ratio = median(a / b for a, b in zip(ours, floor, strict=True))
    return {"tried_per_s": tried, "best": best, "floor_per_s": floor, "sibling_per_s": ours, "ratio": ratio}


def log(host: str, _: int) -> dict[str, Any]:
    """200 MB of log: a raw attach, and a follower of the service, in turn."""
    raw, ours = [], []
    with Service(host) as service:
        same, task = floor_body(service, LOUD)
        for round_ in range(5):
            raw.append(Floor(host).attach_rate(with_workspace(service, same, round_), task))
            ours.append(Client(service).follow_rate(LOUD))
    ratios = [b / a for a, b in zip(raw, ours, strict=True)]
    return {"raw_mb_s": median(raw) / 1e6, "sibling_mb_s": median(ours) / 1e6, "ratio": median(ratios)}


def many(service: ServiceProcess, count: int) -> None:
    """So many builds, all posted at once by one client, until the last result."""
    client = Client(service)
    for build in [client.submit(ECHO) for _ in range(count)]:
        client.finished(build)


def memory(host: str, _: int) -> dict[str, Any]:
    """Resident memory: idle, with 100 followed builds, and after a log of 1 GB."""
    with Service(host, queue__slots=100, queue__memory_overcommit=100) as service:
        process = psutil.Process(service.process.pid)
        Client(service).run(ECHO)
        result = {"idle_mb": process.memory_info().rss / MIB}
        quiet = ECHO | {"commands": ["echo up", "sleep 600"], "memory": "16m"}
        clients = [Client(service) for _ in range(100)]
        builds = [client.submit(quiet) for client in clients]
        answers = [client._follow(build) for client, build in zip(clients, builds, strict=True)]  # noqa: SLF001
        for answer in answers:
            answer.read(1)
        result["followed_100_mb"] = process.memory_info().rss / MIB
        canceller = Client(service)
        for build in builds:
            canceller.ask("POST", f"/v1/builds/{build}/cancel")
        for build in builds:
            canceller.finished(build)
    with Service(host) as service:
        process = psutil.Process(service.process.pid)
        client = Client(service)
        client.run(ECHO)
        before = process.memory_info().rss
        client.follow_rate(ECHO | {"commands": [f"yes {'x' * 99} | head -c {1024**3}"]})
        result["after_1_gb_log_added_mb"] = (process.memory_info().rss - before) / MIB
    return result


class Service:
    """A service for one part, removed with all that it made."""

    def __init__(self, host: str, **settings: object) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._process = ServiceProcess(Path(self._folder.name), host, **settings)

    def __enter__(self) -> ServiceProcess:
        return self._process.start()

    def __exit__(self, *_: object) -> None:
        self._process.destroy()
        self._folder.cleanup()


def floor_body(service: ServiceProcess, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The very body and task that the service would use for this request."""
    place = policy.Place(
        service_id="floor",
        volume=service.name,
        volume_dir=str(service.data),
        toolkit=next(f"toolkit/{each.name}" for each in (service.data / "toolkit").iterdir()),
        network=service.name,
        runtime=None,
        cpus=os.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
    )
    build = Build(
        id="floor", state=BuildState.PREPARING, request=BuildRequest(**request), created_by="bench", created_at=0
    )
    body = docker_wire.create_body(policy.container_spec(build, BuildSettings(), place))
    return body, toolkit.task(build.request, {})


def with_workspace(service: ServiceProcess, body: dict[str, Any], number: int) -> dict[str, Any]:
    """The body with a fresh workspace of its own; making the folder is not timed for the floor."""
    subpath = f"floor/{number}"  # not among the workspaces, of which the reaper removes what it does not know
    (service.data / subpath).mkdir(parents=True, exist_ok=True)
    copy: dict[str, Any] = json.loads(json.dumps(body).replace("workspaces/floor", subpath))
    return copy


def floor_many(host: str, bodies: list[dict[str, Any]], task: bytes, at_once: int) -> None:
    """The floor program, so many at once."""

    def some(mine: list[dict[str, Any]]) -> None:
        floor = Floor(host)
        for each in mine:
            floor.run(each, task)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(some, [bodies[start::at_once] for start in range(at_once)]))


def seconds(work: Callable[[], object]) -> float:
    """How long it took."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def median(values: Any) -> float:
    """The median."""
    return statistics.median(values)


def paired(runs: dict[str, list[Times]], what: str, other: str) -> float:
    """The median of Sibling's ratios to the other, round by round, so that a drifting machine does not count."""
    pairs = zip(runs["sibling"], runs[other], strict=True)
    return median(getattr(ours, what) / getattr(theirs, what) for ours, theirs in pairs)


GOALS = {
    ("latency", "first_ratio"): "POST to first log byte / floor, <= 1.10",
    ("latency", "done_ratio"): "POST to result / floor, <= 1.10",
    ("latency", "first_ratio_to_plain"): "POST to first log byte / plainest container",
    ("latency", "done_ratio_to_plain"): "POST to result / plainest container",
    ("throughput", "ratio"): "50 at once, builds/s / floor's best, >= 0.9",
    ("log", "ratio"): "200 MB of log / raw attach, >= 0.8",
    ("memory", "idle_mb"): "idle, MiB resident, <= 120",
    ("memory", "followed_100_mb"): "100 followed builds, MiB resident, <= 250",
    ("memory", "after_1_gb_log_added_mb"): "added by a 1 GB log, MiB",
    ("agents", "cold_ms"): "queued to running, cold, ms, <= 1000",
    ("agents", "cold_ratio"): "the same / a container that runs java -version",
    ("agents", "warm_ms"): "queued to running, warm agent, ms, <= 300",
    ("agents", "warm_ratio"): "the same / a container that runs java -version",
    ("looks", "requests"): "100 items, 50 nodes: requests of a look, <= 2",
    ("looks", "cpu_ms"): "100 items, 50 nodes: CPU of a look, ms, < 50",
    ("images", "noop_ratio"): "rebuild, all cached / docker with the socket, <= 1.3",
    ("images", "cold_ratio"): "build, nothing cached / docker with the socket, <= 1.1",
    ("images", "push_ratio"): "push of 64 MiB / docker push, <= 1.1",
    ("images", "warm_advantage"): "build on an empty cache / our rebuild, as a factor",
    ("gate", "run_ratio"): "docker run through the gate / the socket, <= 1.15",
    ("gate", "exec_throughput"): "500 MB out of an exec, throughput / the socket's, >= 0.7",
    ("gate", "cp_throughput"): "docker cp of 500 MB, throughput / the socket's, >= 0.7",
    ("gate", "build_cached_ratio"): "docker build, all cached, through the gate / the socket",
    ("gate", "build_and_run_ratio"): "docker build of one step more, and run of it, the same",
    ("gate", "inspect_more_ms"): "median inspect, ms more than the socket, <= 3",
    ("gate", "open_ms"): "a gate that is ready, ms, <= 5",
}


def show(results: dict[str, Any]) -> None:
    """The table."""
    for (part, name), goal in GOALS.items():
        if part in results:
            print(f"{goal:<52} {results[part][name]:8.2f}")


if __name__ == "__main__":
    main()
