"""The builder of `sibling gate`, on a real engine: what it builds, that the build does not see it, and that it goes."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.e2e.gate_process import POLICY, GateProcess, cli
from tests.e2e.harness import BUSYBOX, let_pass, until
from tests.e2e.test_builds import tar_of

pytestmark = pytest.mark.engine
DIND = "sibling-test/dind:1"
CACHE = "sibling-test-gate-cache"
BUILDER = f"""\
{POLICY.replace("sibling-test/*", BUSYBOX)}
[builder]
image = "{{image}}"
cache = "{CACHE}"
memory = "1g"
"""
DOCKERFILE = f"FROM {BUSYBOX}\nRUN echo built >/built\n"


@pytest.fixture
def gate_with(docker_host):
    """Makes gates of the test's own, with a builder of the image."""
    made = []

    def make(build, image=DIND):
        made.append(GateProcess(docker_host, build, BUILDER.replace("{image}", image)).start())
        return made[-1]

    yield make
    for gate in made:
        gate.destroy()
        assert not builders(gate)
        assert not gate.socket.with_name("docker.sock.builder").exists()
    if made:
        until(lambda: removed(CACHE), 20, "the removal of the cache")


def removed(volume):
    return subprocess.run(["docker", "volume", "rm", "-f", volume], check=False, capture_output=True).returncode == 0


def builders(gate):
    shown = ["docker", "ps", "-aq", "--no-trunc", "--filter", f"label=sibling.gate.builder={gate.build}"]
    return subprocess.run(shown, check=True, capture_output=True, text=True).stdout.split()


def build(gate, *options):
    words = ["docker", "--host", f"unix://{gate.socket}", "build", "--progress", "plain", *options, "-"]
    done = subprocess.run(words, input=DOCKERFILE, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_what_it_builds_runs_and_the_next_gate_finds_the_cache(gate_with):
    gate = gate_with("build-one")
    assert "CACHED" not in build(gate, "-t", "app:1")
    assert gate.client.containers.run("app:1", ["cat", "/built"], remove=True) == b"built\n"
    gate.assert_promises_kept()
    assert gate.stop() == 0
    again = gate_with("build-two")
    assert "CACHED" in build(again, "-t", "app:1")


def test_a_build_and_a_container_may_be_the_first_at_once(gate_with):
    gate = gate_with("build-both")
    with ThreadPoolExecutor() as both:
        built, made = both.submit(build, gate, "-t", "app:1"), both.submit(gate.create)
    assert "DONE" in built.result()
    assert made.result()[0] == 201


def test_of_builds_at_once_no_image_is_lost(gate_with):
    gate = gate_with("build-many")
    build(gate)

    def loop(name):
        for count in range(4):
            build(gate, "-t", f"{name}:{count}", "--build-arg", f"of={name}{count}", "--no-cache")
            assert cli(gate, "run", "--rm", f"{name}:{count}", "cat", "/built").stdout == b"built\n"

    with ThreadPoolExecutor() as all_of_them:
        [*all_of_them.map(loop, ("one", "two", "three"))]


def test_a_name_that_nobody_can_call_an_image_by_is_in_nobodys_way(gate_with):
    gate = gate_with("build-name")
    status, _ = gate.ask("POST", "/build?t=Foo/bar:1&remote=", tar_of({"Dockerfile": DOCKERFILE.encode()}))
    build(gate, "-t", "app:1")
    assert cli(gate, "run", "--rm", "app:1", "cat", "/built").stdout == b"built\n", status


def test_the_build_does_not_see_it(gate_with):
    gate = gate_with("build-unseen")
    build(gate, "-t", "app:1")
    (builder,) = builders(gate)
    for name in (builder, builder[:12], "sibling-gate-build-unseen-builder"):
        assert gate.ask("GET", f"/containers/{name}/json")[0] == 404
        assert gate.ask("POST", f"/containers/{name}/exec", {"Cmd": ["true"]})[0] == 404
        assert gate.ask("DELETE", f"/containers/{name}?force=1")[0] == 404
        for host in ({"VolumesFrom": [name]}, {"NetworkMode": f"container:{name}"}):
            assert gate.create(HostConfig=host) == (400, {"message": f"No such container: {name}"})
    for path in ("/containers/json?all=1", "/networks", "/volumes", "/system/df", "/info", "/images/json"):
        shown = json.dumps(gate.ask("GET", path)[1])
        assert builder not in shown, path
        assert "builder" not in shown, path
        assert CACHE not in shown, path
    assert gate.ask("GET", f"/volumes/{CACHE}")[0] == 404
    network = json.dumps(gate.ask("GET", "/networks/bridge")[1])
    assert builder not in network


def test_it_goes_after_a_kill_as_well(gate_with):
    gate = gate_with("build-killed")
    build(gate, "-t", "app:1")
    gate.kill()
    assert builders(gate)
    gate.start()
    assert not builders(gate)
    build(gate, "-t", "app:1")


def test_it_goes_though_the_gate_ends_while_it_is_made(gate_with):
    gate = gate_with("build-making")
    with ThreadPoolExecutor(1) as asking:
        asked = asking.submit(gate.ask, "POST", "/build", b"")
        until(lambda: '"builder"' in gate.journal.read_text(), 20, "the moment before it is made")
        assert gate.stop() == 0
        asked.exception()
    let_pass(2)  # what the engine still made when nobody waited any more would be seen now
    assert not builders(gate)


@pytest.mark.parametrize(
    "end", [("rm", "-f", "{}"), ("exec", "{}", "sh", "-c", "kill -9 -1")], ids=["removed", "killed"]
)
def test_without_it_images_are_there_and_the_next_build_has_a_new_one(gate_with, end):
    gate = gate_with("build-gone")
    build(gate, "-t", "app:1")
    cli(gate, "image", "inspect", "app:1")
    (first,) = builders(gate)
    build(gate, "-t", "other:1", "--no-cache")
    subprocess.run(["docker", *(word.format(first) for word in end)], check=False, capture_output=True)
    with ThreadPoolExecutor(8) as many:
        seen = [*many.map(lambda _: gate.ask("GET", "/images/app:1/json"), range(8))]
    assert [status for status, _ in seen] == [200] * 8, seen
    assert cli(gate, "run", "--rm", "app:1", "cat", "/built").stdout == b"built\n"
    assert gate.log.read_text().count("\nSibling's gate refuses this (build): the builder is gone") == 1
    with ThreadPoolExecutor(3) as many:
        [*many.map(lambda name: build(gate, "-t", name, "--no-cache"), ("one", "two", "three"))]
    for name in ("one", "two", "three"):
        assert cli(gate, "run", "--rm", name, "cat", "/built").stdout == b"built\n"
    (second,) = builders(gate)
    assert second != first


def test_what_was_built_is_saved_into_a_load_at_once(gate_with):
    gate = gate_with("build-pipe")
    build(gate, "-t", "app:1")
    piped = "docker save app:1 | docker load"
    environment = {**os.environ, "DOCKER_HOST": f"unix://{gate.socket}"}
    done = subprocess.run(["sh", "-c", piped], env=environment, check=False, capture_output=True, text=True, timeout=50)
    assert (done.returncode, "Loaded image: app:1" in done.stdout) == (0, True), done.stderr


def test_two_gates_do_not_hold_one_cache(gate_with):
    one, two = gate_with("build-first"), gate_with("build-second")
    build(one)
    build(two)
    assert "is held by another builder" in two.log.read_text()


def test_a_large_context_and_what_comes_of_it_take_little_memory(gate_with, tmp_path):
    gate = gate_with("build-large")
    build(gate)
    rss = psutil.Process(gate.process.pid).memory_info
    before = most = rss().rss
    with (tmp_path / "big").open("wb") as file:
        file.truncate(1024**3)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY big /\n")
    for words, kit in (("build -q -t big .", "1"), ("build -q -t old .", "0"), ("image inspect big", "1")):
        environment = {**os.environ, "DOCKER_HOST": f"unix://{gate.socket}", "DOCKER_BUILDKIT": kit}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        ran = subprocess.Popen(["docker", *words.split()], cwd=tmp_path, env=environment, **quiet)
        while ran.poll() is None:
            most = max(most, rss().rss)
            let_pass(0.05)
        assert ran.returncode == 0, words
    assert most - before < 64 * 1024**2


def test_a_builder_that_cannot_start_is_told(gate_with):
    gate = gate_with("build-none", image=BUSYBOX)
    status, answer = gate.ask("POST", "/build", b"")
    assert status == 500
    assert "ended at once; its last words:" in answer["message"]
    told = cli(gate, "buildx", "build", "-", stdin=DOCKERFILE.encode(), check=False).stderr
    assert b"buildx builds here by its driver `docker`" in told
    assert not builders(gate)
    missing = gate_with("build-missing", image="sibling-test/nothing:1")
    assert "is not on the engine" in missing.ask("POST", "/build", b"")[1]["message"]
