"""What a build may have on the disk, of which the engine itself keeps no count."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.gate.test_builder import BUILDER, CACHE, DIND, build, builders, removed
from tests.e2e.gate_process import POLICY, cli
from tests.e2e.harness import BUSYBOX, until
from tests.e2e.test_builds import tar_of

pytestmark = pytest.mark.engine
FILL = "head -c 40000000 /dev/zero >{}/file; sleep 900"


@pytest.fixture
def small(gate_of):
    return gate_of("disk", POLICY + 'disk = "20m"\n').start()


@pytest.mark.parametrize("where", ["/", "/volume"])
def test_containers_of_a_build_with_too_much_end_until_it_has_less(small, where):
    cli(small, "run", "-d", "--name", "idle", "--restart", "always", BUSYBOX, "sleep", "900")
    cli(small, "run", "-d", "--name", "full", "-v", "data:/volume", BUSYBOX, "sh", "-c", FILL.format(where))
    assert {cli(small, "wait", name).stdout for name in ("idle", "full")} == {b"137\n"}
    assert "(limits.disk): the build has 400" in small.log.read_text()
    for words in (("start", "idle"), ("run", "--rm", BUSYBOX, "true"), ("volume", "create")):
        refused = cli(small, *words, check=False)
        assert refused.returncode != 0
        assert b"(limits.disk)" in refused.stderr, words
    assert small.ask("PUT", "/containers/idle/archive?path=/", tar_of({"more": b"x"}))[0] == 403
    assert small.ask("POST", "/commit?container=idle")[0] == 403
    cli(small, "rm", "full")
    cli(small, "volume", "rm", "data")
    until(lambda: cli(small, "start", "idle", check=False).returncode == 0, 60, "room")
    assert cli(small, "run", "--rm", BUSYBOX, "echo", "room").stdout == b"room\n"


def test_folders_that_are_too_deep_for_the_engine_hide_nothing(small):
    name = "n" * 200
    deep = f"i=0; while [ $i -lt 25 ]; do mkdir {name} && cd {name}; i=$((i + 1)); done"
    cli(small, "run", "-d", "--name", "deep", BUSYBOX, "sh", "-c", f"cd /tmp && {deep}; {FILL.format('/')}")
    assert cli(small, "wait", "deep").stdout == b"137\n"
    assert "(limits.disk)" in small.log.read_text()


def test_files_of_others_do_not_count(gate_of, small):
    other = gate_of("disk-other").start()
    cli(small, "run", "-d", "--name", "idle", BUSYBOX, "sleep", "900")
    cli(other, "run", "-d", "--name", "full", BUSYBOX, "sh", "-c", FILL.format("/"))
    until(
        lambda: other.engine.api.containers(size=True, filters={"id": other.own()[0]["Id"]})[0]["SizeRw"] > 39e6,
        20,
        "it",
    )
    cli(small, "run", "-d", "--name", "own", BUSYBOX, "sh", "-c", FILL.format("/"))
    # Its end tells that a look was taken while the other's files were there.
    assert cli(small, "wait", "own").stdout == b"137\n"
    assert cli(other, "ps", "-q").stdout.count(b"\n") == 1
    assert "(limits.disk): the build has 400" in small.log.read_text()


def test_a_builder_with_too_much_is_ended(gate_of):
    cache = f"{CACHE}-of-disk"  # a module of its own may run at the same time
    policy = BUILDER.replace("{image}", DIND).replace(CACHE, cache)
    gate = gate_of("disk-builder", policy + 'disk = "1m"\n').start()
    try:
        build(gate)
        until(lambda: not builders(gate), 60, "the end of the builder")
        assert "over builder.disk, and is ended; remove the volume" in gate.log.read_text()
        assert gate.ask("GET", "/images/json")[0] == 200
        with ThreadPoolExecutor(1) as asking:
            asking.submit(gate.ask, "POST", "/build", b"")
            (new,) = until(lambda: builders(gate), 30, "the next builder")
            mounts = gate.engine.api.inspect_container(new)["Mounts"]
        assert cache not in {each.get("Name") for each in mounts}
    finally:
        gate.stop()
        until(lambda: removed(cache), 20, "the removal of the cache")
