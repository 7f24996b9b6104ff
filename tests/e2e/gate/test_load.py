"""Twenty gates in one process under load, and gigabytes through one of them, in flat memory."""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import psutil
import pytest

from tests.e2e.harness import BUSYBOX, let_pass, until

pytestmark = pytest.mark.engine
GATES, REQUESTS = 20, 100
GIB = 1024**3
ROOM = 64 * 1024**2  # bytes that may be in flight, and what Python keeps of them


@pytest.fixture(scope="module")
def gates(docker_host):
    """The process, and the folder of its sockets."""
    with tempfile.TemporaryDirectory(prefix="gates-") as folder:
        words = [sys.executable, "-m", "tests.e2e.many_gates", docker_host, folder, str(GATES)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"open\n"
        yield process, Path(folder)
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert not list(Path(folder).glob("*.journal")), "all that was made is removed"


def client(folder, number):
    return docker.DockerClient(base_url=f"unix://{folder / f'{number}.sock'}", version="1.45", timeout=60)


def one_build(folder, number):
    """Makes a container, and asks for it and for all again and again; the names that were listed."""
    own = client(folder, number)
    try:
        box = own.containers.create(BUSYBOX, ["true"], name="box")
        seen = set()
        for _ in range(REQUESTS // 2):
            seen.update(each["Id"] for each in own.api.containers(all=True))
            assert own.api.inspect_container("box")["Id"] == box.id
        assert seen == {box.id}
    finally:
        own.close()
    return box.id


def test_twenty_builds_at_once_see_their_own_alone(gates):
    process, folder = gates
    before = psutil.Process(process.pid).memory_info().rss
    with ThreadPoolExecutor(GATES) as builds:
        made = list(builds.map(lambda number: one_build(folder, number), range(GATES)))
    assert len(set(made)) == GATES
    assert psutil.Process(process.pid).memory_info().rss - before < ROOM


def test_a_gigabyte_each_way_in_flat_memory(gates, tmp_path):
    process, folder = gates
    rss = psutil.Process(process.pid).memory_info
    before = rss().rss
    most = before
    environment = {**os.environ, "DOCKER_HOST": f"unix://{folder / '0.sock'}"}

    def run(*words, **given):
        nonlocal most
        ran = subprocess.Popen(["docker", *words], env=environment, **given)
        while ran.poll() is None:
            most = max(most, rss().rss)
            let_pass(0.05)
        assert ran.returncode == 0, words

    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(GIB)
    run("run", "-d", "--name", "big", BUSYBOX, "sleep", "600", stdout=subprocess.DEVNULL)
    run("cp", str(big), "big:/big")
    run("cp", "big:/big", "-", stdout=subprocess.DEVNULL)
    run("exec", "big", "cat", "/big", stdout=subprocess.DEVNULL)
    run("commit", "big", "big:1", stdout=subprocess.DEVNULL)
    run("save", "-o", str(big), "big:1")
    assert big.stat().st_size > GIB
    run("load", "-i", str(big), stdout=subprocess.DEVNULL)
    assert most - before < ROOM


def test_what_one_build_asks_for_does_not_keep_another_waiting_for_all_of_it(gates):
    _, folder = gates
    large = {"Image": BUSYBOX, "Labels": {"sibling.x": "", **{f"key{number}": "" for number in range(15_000)}}}
    asking = 60
    done = []

    def ask():
        own = client(folder, 1)
        answer = own.api._post_json(own.api._url("/containers/create"), data=large)
        done.append(answer.status_code)
        own.close()

    other = client(folder, 2)
    with ThreadPoolExecutor(asking) as builds:
        asked = [builds.submit(ask) for _ in range(asking)]
        until(lambda: done, 60, "the first of them")
        assert other.ping()
        before = len(done)
        for each in asked:
            each.result()
    other.close()
    assert done == [403] * asking, "its first label is not for builds"
    assert before < asking / 2
