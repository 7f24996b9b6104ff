"""A gate for all tests of a module, gates of a test's own, and things of others on the same engine."""

import docker
import pytest

from tests.e2e.gate_process import POLICY, GateProcess
from tests.e2e.harness import BUSYBOX


@pytest.fixture(scope="module")
def shared(docker_host, request):
    gate = GateProcess(docker_host, f"shared-{_short(request)}").start()
    yield gate
    gate.destroy()


@pytest.fixture
def gate(shared):
    yield shared
    shared.assert_promises_kept()
    for container in shared.client.containers.list(all=True):
        container.remove(force=True, v=True)


@pytest.fixture
def gate_of(docker_host):
    """Makes gates of the test's own, by the build."""
    made = []

    def make(build, policy=POLICY):
        made.append(GateProcess(docker_host, build, policy))
        return made[-1]

    yield make
    for each in made:
        each.destroy()


@pytest.fixture(scope="module")
def foreign(docker_host, request):
    """Things of others on the same engine, all named `foreign-`, and the module as in `foreign-attacks`."""
    name = f"foreign-{_short(request)}"
    engine = docker.DockerClient(base_url=docker_host, version="1.45")
    things = {
        "container": engine.containers.run(BUSYBOX, ["sleep", "900"], name=name, detach=True),
        "network": engine.networks.create(name),
        "volume": engine.volumes.create(name, labels={"sibling.gate": "other"}),
    }
    yield things
    things["container"].remove(force=True)
    things["network"].remove()
    things["volume"].remove()
    engine.close()


def _short(request):
    """`attacks` of the module `test_attacks`: modules run at the same time."""
    return request.module.__name__.rpartition("test_")[2]
