"""What inspect tells of a container that was made through a gate, beside what it tells on the engine's own socket."""

import json
import os
import subprocess
from contextlib import contextmanager

import pytest

from tests.e2e.gate_process import GateProcess
from tests.e2e.harness import BUSYBOX

pytestmark = pytest.mark.engine
# In these a container through a gate is another one, and it is told so.
ON_PURPOSE = {
    "HostConfig.CgroupnsMode",  # with cgroup v1 the engine's default is the host's
    "NetworkSettings.Networks.bridge.Aliases",  # its own name, which the engine's own bridge does not know
    "NetworkSettings.Networks.bridge.Links",
}
OF_EACH = {"Id", "Created", "Config.Hostname"}
CREATED = {
    "with nothing": [],
    "with what a run has": [
        "-v",
        "WS:/a:ro",
        "-v",
        "WS/x:/x",
        "-v",
        "PREvol:/v:z",
        "-v",
        "PREvol:/p",
        "-v",
        "/anonymous",
        "-p",
        "127.0.0.1:8080:80",
        "-p",
        "90",
        "--cap-add",
        "chown",
        "--cap-drop",
        "CAP_KILL",
        "--link",
        "PREother:l",
        "--volumes-from",
        "PREother:ro",
        "--security-opt",
        "no-new-privileges",
        "--log-driver",
        "json-file",
        "--log-opt",
        "max-size=5m",
        "--cpus",
        "0.5",
        "--memory",
        "64m",
        "--pids-limit",
        "50",
    ],
    "with mounts": [
        "--mount",
        "type=bind,src=WS,dst=/a,readonly",
        "--mount",
        "type=volume,src=PREvol,dst=/v",
        "--mount",
        "type=volume,dst=/n",
        "--mount",
        "type=tmpfs,dst=/t,tmpfs-size=1m",
        "--tmpfs",
        "/m:size=1m",
        "-v",
        "PREvol:/w",
        "--cpu-quota",
        "50000",
        "--cpu-period",
        "100000",
        "--memory",
        "64m",
        "--memory-swap",
        "64m",
        "--restart",
        "on-failure:3",
    ],
    "with no network": [
        "-P",
        "--expose",
        "70",
        "--cpu-shares",
        "2048",
        "--network",
        "none",
        "--memory-reservation",
        "10m",
    ],
}
UPDATED = ["--memory", "80m", "--memory-swap", "160m", "--cpus", "0.4", "--pids-limit", "60"]


class Side:
    """One of both: an address, the folder of binds, and a prefix of names."""

    def __init__(self, address, folder, prefix):
        self.address, self.folder, self.prefix = address, folder, prefix

    def docker(self, *words):
        whole = [word.replace("WS", self.folder).replace("PRE", self.prefix) for word in words]
        environment = {**os.environ, "DOCKER_HOST": self.address}
        return subprocess.run(["docker", *whole], env=environment, check=True, capture_output=True, text=True).stdout

    def facts(self):
        """Of the container `PREbox`, each by its path, without what is new in each."""
        told = self.docker("inspect", "PREbox").replace(self.folder, "WS").replace(self.prefix, "PRE")
        (whole,) = json.loads(told)
        whole["GraphDriver"]["Data"] = None  # paths of the host
        whole["HostConfig"]["Binds"] = sorted(
            whole["HostConfig"]["Binds"] or ()
        )  # a client's order is another each time
        whole["Mounts"] = {each["Destination"]: _of_any(each) for each in whole["Mounts"]}
        return {path: value for path, value in flat(whole) if path not in OF_EACH}


def _of_any(mount):
    if len(mount.get("Name", "")) == 64:
        mount["Name"] = mount["Source"] = "ANONYMOUS"
    return mount


def flat(value, path=""):
    """Its leaves; what is empty is as if it was not there."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from flat(each, f"{path}.{name}".strip("."))
    elif value not in ([], None):
        yield path, value


@pytest.fixture(scope="module")
def sides(docker_host, tmp_path_factory, module_gate):
    raw = Side(docker_host, str(tmp_path_factory.mktemp("raw")), "sibling-inspect-raw-")
    through = Side(f"unix://{module_gate.socket}", "/workspace", "sibling-inspect-own-")
    for each in (raw, through):
        each.docker("create", "--name", "PREother", BUSYBOX, "true")
        each.docker("volume", "create", "PREvol")
    yield raw, through
    raw.docker("rm", "-fv", "PREother")
    raw.docker("volume", "rm", "PREvol")


@pytest.fixture(scope="module")
def module_gate(docker_host):
    gate = GateProcess(docker_host, "inspect").start()
    yield gate
    gate.destroy()


@contextmanager
def created(sides, words):
    """Such a container on both, in the block."""
    for each in sides:
        each.docker("create", "--name", "PREbox", *words, BUSYBOX, "sh", "-c", "true")
    yield
    for each in sides:
        each.docker("rm", "-fv", "PREbox")


def different(sides):
    raw, through = (each.facts() for each in sides)
    found = {path: (raw.get(path), through.get(path)) for path in {*raw, *through}}
    return {path: both for path, both in found.items() if both[0] != both[1] and path not in ON_PURPOSE}


@pytest.mark.parametrize("words", CREATED.values(), ids=CREATED.keys())
def test_a_container_is_told_as_it_was_asked_for(sides, module_gate, words):
    with created(sides, words):
        found = different(sides)
        module_gate.assert_promises_kept()
    assert found == {}


def test_what_was_updated_is_told_as_it_was_asked_for_until_it_is_gone(sides, module_gate):
    with created(sides, ["--memory", "64m", "--cpus", "0.5", "-v", "WS:/a"]):
        for each in sides:
            each.docker("update", *UPDATED, "PREbox")
        found = different(sides)
    assert found == {}
    told = [json.loads(line) for line in module_gate.journal.read_text().splitlines()]
    assert [sign for sign, kind, *_ in told if kind == "asked"][-1] == "-"


def test_a_list_tells_each_bind_of_the_workspace(gate):
    mounts = ["-v", "/workspace/one:/1", "-v", "/workspace/two:/2"]
    side = Side(f"unix://{gate.socket}", "/workspace", "")
    side.docker("create", *mounts, BUSYBOX, "true")
    told = side.docker("ps", "-a", "--no-trunc", "--format", "{{.Mounts}}").strip()
    assert sorted(told.split(",")) == ["/workspace/one", "/workspace/two"]
