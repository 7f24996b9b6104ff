"""What is kept of a request for a container's inspect; that it is what the engine tells is tried in tests/e2e/gate."""

import json

from agent.gate import asked, bodies, create
from agent.gate.policy import GatePolicy, Limits

POLICY = GatePolicy(limits=Limits(memory=2**30, cpus=2, pids=100))
FOUND = {"Id": "own", "HostConfig": {"Memory": 2**30, "Mounts": [{}], "Init": True}, "Mounts": []}
NAMES = {"own": "box", "id-a": "a"}


def known(**host):
    body = bodies.read(bodies.ContainerBody, {"Image": "i", "HostConfig": host})
    return asked.text(create.plan(body, POLICY, None), {"a": "id-a", "/b": "id-b"})


def test_what_was_asked_for_is_laid_over_what_the_engine_has():
    host = asked.shown(FOUND, known(Memory=2**20, PidsLimit=-1, Binds=["v1:/v"]), NAMES)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"], host["Init"]) == (2**20, 2**21, None, True)
    assert host["Binds"] == ["v1:/v"]
    assert "Mounts" not in host


def test_links_are_told_by_the_names_that_there_are():
    host = asked.shown(FOUND, known(Links=["a:one", "a", "/b:gone"]), NAMES)["HostConfig"]
    assert host["Links"] == ["/a:/box/one", "/a:/box/a"]
    assert asked.shown(FOUND, known(Links=["a"], NetworkMode="net"), NAMES)["HostConfig"]["Links"] is None


def test_what_is_updated_is_told_and_the_rest_stays():
    update = bodies.read(bodies.UpdateBody, {"NanoCpus": 10**9})
    host = json.loads(asked.updated(known(Memory=2**20, NanoCpus=10**8), update))["host"]
    assert (host["Memory"], host["NanoCpus"]) == (2**20, 10**9)


def test_of_what_is_too_long_nothing_is_kept_and_the_engines_is_told():
    text = known(Binds=[f"v{'x' * 190}{number}:/{number}" for number in range(90)])
    assert text == ""
    assert asked.shown(FOUND, text, NAMES) == FOUND
    assert asked.updated(text, bodies.UpdateBody(Memory=1)) == ""
