"""The end of a gate leaves nothing; and a policy that is wrong does not begin."""

import json
import math
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from agent.references import push_mark
from tests.e2e.gate_process import POLICY, cli
from tests.e2e.harness import BUSYBOX, image_ids, image_names, let_pass, until
from tests.e2e.registry_proxy import FaultProxy, blob_upload

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


def test_what_stands_in_for_a_container_goes_though_it_came_after_a_kill(gate_of):
    """The engine may make it after the gate that asked for it is dead, and it has no label."""
    gate = gate_of("end-late")
    name = f"sibling-gate-{gate.build}.{'0' * 32}"
    gate.journal.write_text(json.dumps(["+", "intent", name, f"builder {time.time():.0f}"]) + "\n")
    gate.start()
    assert gate.process is not None
    gate.process.send_signal(signal.SIGTERM)

    def is_closed():
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(str(gate.socket)) != 0

    until(is_closed, what="the end of its socket")
    gate.engine.containers.create(BUSYBOX, ["true"], name=name)
    assert gate.process.wait(60) == 0
    assert name not in {each.name for each in gate.engine.containers.list(all=True, ignore_removed=True)}


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


def test_its_end_waits_for_nobody_who_does_not_read(gate_of):
    gate = gate_of("end-unread").start()
    cli(gate, "run", "--name", "big", BUSYBOX, "head", "-c", "30000000", "/dev/zero", stdin=b"")
    with socket.socket(socket.AF_UNIX) as unread:
        unread.connect(str(gate.socket))
        unread.sendall(b"GET /v1.45/containers/big/logs?stdout=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert unread.recv(10)
        began = time.monotonic()
        assert gate.stop() == 0
        assert time.monotonic() - began < 20


COMMIT = "/commit?container=big&repo=big"


@pytest.mark.parametrize("how", ["term", "kill"])
def test_what_the_engine_is_making_at_its_end_goes_as_well(gate_of, how):
    gate = gate_of(f"end-making-{how}").start()
    cli(gate, "run", "--name", "big", BUSYBOX, "sh", "-c", "head -c 200000000 /dev/urandom >/file")
    with ThreadPoolExecutor(8) as asking:
        asked = [asking.submit(gate.ask, "POST", COMMIT)]
        asked += [asking.submit(gate.ask, "POST", "/networks/create", {"Name": f"net-{each}"}) for each in range(4)]
        asked += [asking.submit(gate.create, f"box-{each}") for each in range(3)]
        until(lambda: '"intent"' in gate.journal.read_text(), 20, "the first that is being made")
        if how == "kill":
            gate.kill()
            gate.start()
        assert gate.stop() == 0
        for each in asked:
            each.exception()
    # What the engine still made when nobody waited any more would be seen now.
    until(lambda: not gate.journal.exists(), 5, "the end of the journal")
    let_pass(2)
    assert gate.left() == []


def test_a_name_that_a_push_lent_goes_after_a_kill(gate_of, registry):
    with FaultProxy(registry.address, blob_upload(rate=20_000, times=math.inf)) as proxy:
        name = f"{proxy.address}/team/slow:1"
        gate = gate_of("end-push", f'push = ["{proxy.address}/**"]\n' + POLICY).start()
        other = gate_of("end-pull", POLICY.replace("sibling-test/*", f"{proxy.address}/**")).start()
        gate.create("box")
        cli(gate, "run", "--name", "big", BUSYBOX, "sh", "-c", "head -c 3000000 /dev/urandom >/file")
        cli(gate, "commit", "big", name)
        with ThreadPoolExecutor(1) as pushing:
            pushed = pushing.submit(cli, gate, "push", name, check=False)
            until(lambda: name in image_names(gate.engine), 20, "the name")
            assert cli(other, "image", "inspect", name, check=False).returncode != 0, "it is not pushed yet"
            assert other.create("stolen", Image=name)[0] == 404
            assert name.encode() not in cli(other, "images", "--format", "{{.Repository}}:{{.Tag}}").stdout
            gate.kill()
            assert pushed.result().returncode != 0
        gate.start()
        assert name not in image_names(gate.engine)
        assert not [each for each in image_names(gate.engine) if each == push_mark(name)]
        assert gate.stop() == 0


def test_a_name_that_somebody_took_during_a_push_stays_theirs_and_its_mark_goes(gate_of, registry):
    with FaultProxy(registry.address, blob_upload(rate=20_000, times=math.inf)) as proxy:
        name = f"{proxy.address}/team/taken:1"
        gate = gate_of("end-taken", f'push = ["{proxy.address}/**"]\n' + POLICY).start()
        cli(gate, "run", "--name", "big", BUSYBOX, "sh", "-c", "head -c 3000000 /dev/urandom >/file")
        cli(gate, "commit", "big", name)
        with ThreadPoolExecutor(1) as pushing:
            pushed = pushing.submit(cli, gate, "push", name, check=False)
            until(lambda: name in image_names(gate.engine), 20, "the name")
            gate.engine.images.get(BUSYBOX).tag(name)
            assert gate.stop() == 0
            pushed.result()
        assert gate.engine.images.get(name).id == gate.engine.images.get(BUSYBOX).id
        gate.engine.images.remove(name)
        assert push_mark(name) not in image_names(gate.engine)


def test_an_image_of_which_others_have_a_container_stays_theirs(gate_of):
    mine, theirs = gate_of("end-mine").start(), gate_of("end-theirs").start()
    mine.create("box")
    cli(mine, "run", "--name", "made", BUSYBOX, "sh", "-c", "echo made >/file")
    cli(mine, "commit", "made", "shared:1")
    saved = cli(mine, "save", "shared:1").stdout
    cli(theirs, "load", stdin=saved)
    _, container = theirs.create("box", Image="shared:1")
    cli(theirs, "rmi", "-f", "shared:1")
    assert mine.stop() == 0
    assert mine.left() == []
    image = theirs.engine.containers.get(container["Id"]).attrs["Image"]
    assert image in image_ids(theirs.engine), "a stopped container keeps its image"
    assert theirs.stop() == 0
    theirs.engine.images.remove(image)


def test_an_image_that_others_use_is_not_removed_by_force(gate_of):
    gate = gate_of("end-force").start()
    name = "sibling-test/moved:1"
    gate.engine.images.get(BUSYBOX).tag(name)
    other = gate.engine.containers.create(BUSYBOX, ["true"])
    made = other.commit("sibling-test/moved", "1")
    holder = gate.engine.containers.create(name, ["true"])
    try:
        cli(gate, "tag", name, "mine:1")
        gate.engine.images.get(BUSYBOX).tag(name)
        cli(gate, "rmi", "-f", "mine:1")
        assert made.id in image_ids(gate.engine)
    finally:
        for each in (holder, other):
            each.remove(force=True)
        gate.engine.images.remove(name)
        gate.engine.images.remove(made.id)


def test_uploads_that_break_off_leave_nothing_open(gate_of):
    gate = gate_of("end-uploads").start()
    gate.create("box")
    before = psutil.Process(gate.process.pid).num_fds()
    for path in ("/images/create?fromSrc=-", "/containers/box/archive?path=/", "/images/load") * 10:
        method = "PUT" if "archive" in path else "POST"
        with socket.socket(socket.AF_UNIX) as broken:
            broken.connect(str(gate.socket))
            broken.sendall(
                f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode() + bytes(1000)
            )
    until(lambda: psutil.Process(gate.process.pid).num_fds() <= before + 2, 20, "the end of all connections")
    assert cli(gate, "ps", "-aq").stdout


def test_counting_does_not_lose_what_is_made_meanwhile(gate_of):
    gate = gate_of("end-counting", POLICY.replace("containers = 6", "containers = 8")).start()
    with ThreadPoolExecutor(10) as many:
        told = [many.submit(gate.ask, "GET", "/info") for _ in range(60)]
        made = [many.submit(gate.create, f"box-{each}") for each in range(12)]
        assert sorted(each.result()[0] for each in made) == [201] * 8 + [403] * 4
        assert {each.result()[0] for each in told} == {200}
    assert len(gate.own()) == 8


def test_a_journal_whose_last_line_is_torn_is_read(gate_of):
    gate = gate_of("end-torn").start()
    filled(gate)
    gate.kill()
    with gate.journal.open("a") as journal:
        journal.write('["+", "conta')
    gate.start()
    assert gate.left() == ["sibling-gate-end-torn-workspace"]
    assert gate.stop() == 0
