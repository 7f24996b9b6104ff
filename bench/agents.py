"""Agents for a simulated controller's queue: queued to running, cold and warm, and what a look at it costs."""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from agent.toolkit.java import find_java, make_runtime
from bench.floor import Floor
from tests.e2e.harness import BUSYBOX, let_pass, until
from tests.e2e.jenkins import BUSYBOX_LABEL, AgentService, ControllerNetwork

if TYPE_CHECKING:
    from collections.abc import Iterator

WARM = f'[templates.warm]\nimage = "{BUSYBOX}"\nmin_idle = 1\n'
LOOKS_FOR = 15.0  # seconds


def agents(host: str, rounds: int) -> dict[str, Any]:
    """Queued to running, image and toolkit present; against `docker run` of the same Java printing its version."""
    cold, java = [], []
    with _service(host) as (service, jenkins):
        floor, body = Floor(host), _java_body(service)
        for round_ in range(rounds + 2):
            java.append(floor.run(body, None).done)
            cold.append(_queued_to_running(service, jenkins, f"cold-{round_}", f"{BUSYBOX_LABEL},run={round_}"))
    warm = []
    with _service(host, config=WARM) as (service, jenkins):
        for round_ in range(rounds + 2):
            until(lambda: service.agents("connected"), what="a warm agent")
            let_pass(1)  # its last trace of starting is over
            warm.append(_queued_to_running(service, jenkins, f"warm-{round_}", "warm", left=1))
    java, cold, warm = java[2:], cold[2:], warm[2:]  # the first ones warm up
    return {
        "java_ms": 1000 * statistics.median(java),
        "cold_ms": 1000 * statistics.median(cold),
        "warm_ms": 1000 * statistics.median(warm),
        "cold_ratio": statistics.median(a / b for a, b in zip(cold, java, strict=True)),
        "warm_ratio": statistics.median(a / b for a, b in zip(warm, java, strict=True)),
    }


def looks(host: str, _: int) -> dict[str, Any]:
    """A controller with 100 items waiting and 50 nodes: requests and CPU of the service for one look."""
    with _service(host) as (service, jenkins):
        for number in range(50):
            jenkins.add_node(f"node-{number}", f"elsewhere-{number}")
        for number in range(100):
            jenkins.add_freestyle(f"waiting-{number}", f"elsewhere-{number % 50} && big")
            jenkins.build(f"waiting-{number}")
        let_pass(2)
        process = psutil.Process(service.process.pid)
        jenkins.forget_requests()
        before = process.cpu_times()
        let_pass(LOOKS_FOR)
        after = process.cpu_times()
        queue, nodes = jenkins.count("GET /queue/api"), jenkins.count("GET /computer/api")
    cpu = after.user + after.system - before.user - before.system
    return {"per_s": queue / LOOKS_FOR, "requests": (queue + nodes) / queue, "cpu_ms": 1000 * cpu / queue}


@contextmanager
def _service(host: str, **settings: Any) -> Iterator[tuple[AgentService, Any]]:
    network = ControllerNetwork(host)
    with tempfile.TemporaryDirectory() as folder:
        make_runtime(find_java(None), Path(folder))
        service = AgentService(Path(folder) / "service", host, network, Path(folder) / "jre", **settings).start()
        try:
            yield service.trained(), network.simulator
        finally:
            service.destroy()
            network.close()


def _queued_to_running(service: AgentService, jenkins: Any, name: str, label: str, left: int = 0) -> float:
    """Seconds by the controller's own clock, of a job that does nothing; then all is quiet again."""
    jenkins.add_freestyle(name, label, "sleep 0.3")
    build = jenkins.wait_ended(jenkins.build(name))
    until(lambda: len([each for each in service.containers() if each.labels["sibling.role"] == "agent"]) == left)
    let_pass(0.1 + time.time() % 0.3)  # not in step with the looks at the queue
    return float(build.started_at - build.queued_at)


def _java_body(service: AgentService) -> dict[str, Any]:
    """A container that does nothing but to run the agents' Java."""
    kit = next((service.data / "toolkit").glob("*/agent.jar")).parent.name
    mount = {
        "Type": "volume",
        "Source": service.name,
        "Target": "/opt/sibling",
        "ReadOnly": True,
        "VolumeOptions": {"Subpath": f"toolkit/{kit}", "NoCopy": True},
    }
    java = ["lib/ld.so", "--inhibit-cache", "--library-path", "lib", "jre/bin/java", "-version"]
    return {"Image": BUSYBOX, "WorkingDir": "/opt/sibling", "Entrypoint": java, "HostConfig": {"Mounts": [mount]}}
