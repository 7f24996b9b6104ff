"""`scripts/demo` and `scripts/demo-stop`, in a folder of the test's own and on the engine of the tests."""

import contextlib
import json
import os
import re
import socket
import subprocess
from pathlib import Path

import docker
import httpx2
import pytest

from tests.e2e.harness import BUSYBOX, image_ids, until

pytestmark = pytest.mark.engine

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SCRIPTS = Path(__file__).parents[2] / "scripts"


class Demo:
    def __init__(self, folder: Path, docker_host: str) -> None:
        self.folder = folder
        self._environment = {**os.environ, "DOCKER_HOST": docker_host, "SIBLING_DEMO_DIR": str(folder)}

    def run(self, script: str) -> str:
        done = subprocess.run([SCRIPTS / script], env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> str:
        return self.run("demo")

    def stop(self) -> str:
        return self.run("demo-stop")

    def pid(self, of: str) -> int:
        return int((self.folder / f"{of}.pid").read_text())

    @property
    def name(self) -> str:
        """What its volume and its network are called."""
        return re.findall(r"sibling-demo-\w+", (self.folder / "sibling.toml").read_text())[0]

    def sibling(self, output: str, *arguments: str) -> str:
        """Run the command line as the demo's last words tell to."""
        exports = next(line for line in output.splitlines() if line.startswith("  export "))
        command = ["bash", "-euc", f'{exports}\nexec sibling "$@"', "-", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def demo(tmp_path, docker_host):
    demo = Demo(tmp_path / "demo", docker_host)
    yield demo
    demo.stop()


@pytest.fixture
def engine(docker_host):
    with contextlib.closing(docker.DockerClient(base_url=docker_host, version="1.45")) as client:
        yield client


@pytest.fixture
def usual_port_taken():
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # by somebody else is as good
            stack.enter_context(socket.create_server(("127.0.0.1", 8700)))
        yield


def is_alive(pid):
    return Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() != b""


def digest_in_registry(image):
    address, _, repository = image.partition("/")
    name, _, tag = repository.partition(":")
    manifest = f"http://{address}/v2/{name}/manifests/{tag}"
    return httpx2.head(manifest, headers={"Accept": MANIFEST}, trust_env=False).headers["Docker-Content-Digest"]


def test_the_demo_runs_a_build_with_its_log_artifacts_and_phases_and_an_image_that_another_build_made(
    demo, usual_port_taken
):
    output = demo.start()
    assert re.search(r"^\d\d:\d\d:\d\d\.\d{3} ok      every line has its width$", output, re.MULTILINE)
    assert "signing with the key ****" in output
    assert re.search(r"^phases +queued .*, run .*, artifacts ", output, re.MULTILINE)
    for name in ("SHA256SUMS", "SIGNATURE", "mandelbrot.tar.gz"):
        assert (demo.folder / "artifacts/dist" / name).stat().st_size > 0
    assert "SIBLING_URL=http://127.0.0.1:8700 " not in output
    (image, digest) = re.findall(r"^\[sibling\] Pushed (\S+)@(sha256:\w+)$", output, re.MULTILINE)[-1]
    assert digest_in_registry(image) == digest
    assert f"\nUntagged: {image}\n" in output
    _, pulled, run = output.partition(f"\n[sibling] pulled {image} in ")
    assert pulled
    assert "@@@@@@" in run


def test_a_second_run_uses_the_first_ones_service_and_registry_and_stop_leaves_nothing(demo, engine):
    demo.start()
    first, registry, name = demo.pid("service"), demo.pid("registry"), demo.name
    output = demo.start()
    assert (demo.pid("service"), demo.pid("registry")) == (first, registry)
    builds = json.loads(demo.sibling(output, "ps", "--all", "--json"))
    posted = [build for build in builds if build["agent"] is None]
    assert [build["result"] for build in posted] == ["SUCCESS"] * 2 * 4
    assert len(builds) == 2 * 5, "and an agent for the job of each run"
    demo.sibling(output, "run", "--detach", "--image", BUSYBOX, "--", "sleep", "600")
    until(lambda: '"running"' in demo.sibling(output, "ps", "--json"))
    made = {build["image_build"]["id"] for build in builds if build["kind"] == "image-build"}
    assert made & image_ids(engine)
    demo.stop()
    assert not is_alive(first)
    assert not is_alive(registry)
    assert not demo.folder.exists()
    assert engine.containers.list(all=True, ignore_removed=True, filters={"network": name}) == []
    assert engine.networks.list(names=[name]) == []
    assert name not in [volume.name for volume in engine.volumes.list()]
    assert not made & image_ids(engine)
    assert demo.stop() == ""


@pytest.mark.parametrize("what", ["service", "registry"])
def test_stop_leaves_a_stranger_alone_who_has_the_number_of_what_it_ends(demo, what):
    demo.folder.mkdir()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (demo.folder / f"{what}.pid").write_text(f"{stranger.pid}\n")
        demo.stop()
        assert stranger.poll() is None
        stranger.kill()
