"""The end of a gate leaves nothing; and a policy that is wrong does not begin."""

import json

import pytest

from tests.e2e.gate_process import POLICY, cli
from tests.e2e.harness import BUSYBOX

pytestmark = pytest.mark.engine


def filled(gate):
    cli(gate, "network", "create", "net-end")
    cli(gate, "volume", "create", "data-end")
    cli(
        gate,
        "run",
        "-d",
        "--network",
        "net-end",
        "-v",
        "data-end:/d",
        "-v",
        "/anonymous",
        "--name",
        "end",
        BUSYBOX,
        "sleep",
        "600",
    )
    cli(gate, "commit", "end", "end:1")
    assert len(gate.left()) >= 4


@pytest.mark.parametrize("how", ["term", "kill"])
def test_nothing_is_left_after_its_end(gate_of, how):
    gate = gate_of(f"end-{how}").start()
    filled(gate)
    volumes = {each["Name"] for one in gate.own() for each in one["Mounts"] if each["Type"] == "volume"}
    assert volumes
    if how == "kill":
        gate.kill()
        assert gate.left()
        gate.start()
    assert gate.stop() == 0
    assert gate.left() == []
    assert not volumes & {each.name for each in gate.engine.volumes.list()}
    assert not gate.socket.exists()


def test_a_policy_of_all_images_does_not_mean_those_of_other_builds(gate_of):
    mine, theirs = gate_of("t3", POLICY.replace("sibling-test/*", "**")).start(), gate_of("t4").start()
    theirs.create("box")
    cli(theirs, "commit", "box", "secret:1")
    (anchor,) = [name for name in theirs.left() if name.startswith("sibling.local/")]
    (image,) = [each["Id"] for each in theirs.ask("GET", "/images/json")[1] if "secret:1" in each["RepoTags"]]
    for name in (anchor, image, image.removeprefix("sha256:")[:12], "secret:1"):
        assert mine.ask("GET", f"/images/{name}/json")[0] == 404
        assert mine.create(Image=name)[0] == 404
        assert mine.ask("POST", f"/images/{name}/tag?repo=mine")[0] == 404
    assert "sibling.local" not in json.dumps(mine.ask("GET", "/images/json?all=1")[1])
    assert mine.ask("POST", f"/images/{BUSYBOX}/tag?repo=sibling.local/x")[0] == 403


def test_two_builds_do_not_see_each_other(gate_of, shared):
    other = gate_of("t2").start()
    cli(other, "run", "-d", "--name", "theirs", BUSYBOX, "sleep", "600")
    (container,) = other.own()
    assert shared.ask("GET", f"/containers/{container['Id']}/json")[0] == 404
    assert shared.create(Image=container["Image"])[0] in (201, 404)
    assert "theirs" not in json.dumps(shared.ask("GET", "/containers/json?all=1")[1])


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("images = 5", "images"),
        ("nonsense = 1", "nonsense"),
        ("= broken", "TOML"),
        ('workspace = "/w:/no/such"', "is no folder"),
    ],
)
def test_a_policy_that_is_wrong_is_told(gate_of, policy, said):
    gate = gate_of("bad", policy)
    with pytest.raises(AssertionError, match=said):
        gate.start()
    assert gate.process.returncode == 2
