"""A real service as a process of its own, on a real engine, with a volume and a network of its own."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import docker
import httpx2

from agent.build_log.logs import BuildLogs

BUSYBOX = "sibling-test/busybox:1"
READY = 30  # seconds


def image_names(engine: docker.DockerClient) -> list[str]:
    """Of all images, in one look: docker-py's own list asks for each, and another test may have removed it by then."""
    found = engine.api.images()
    return [name for each in found for name in (*(each["RepoTags"] or ()), *(each["RepoDigests"] or ()))]


def image_ids(engine: docker.DockerClient) -> set[str]:
    """Of all images, those without a name, too."""
    return {each["Id"] for each in engine.api.images(all=True)}


def until(condition, seconds=30.0, what="the condition"):
    """Wait for a true value and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {seconds} s")


def let_pass(seconds):
    """Let time pass: only where the moment is what is tested, never to wait for something."""
    time.sleep(seconds)


class SilentRegistry:
    """Takes connections and never answers, as a registry behind a broken proxy does."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def close(self) -> None:
        for each in (self._listener, *self._taken):
            each.close()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._taken.append(self._listener.accept()[0])
                self.asked.set()


class ServiceProcess:
    """`sibling serve`, to be called, killed and started again."""

    def __init__(self, folder: Path, docker_host: str, *, config: str = "", **settings: object) -> None:
        self.name = f"sibling-test-{secrets.token_hex(4)}"
        self.folder = folder
        self.docker = docker.DockerClient(base_url=docker_host, version="1.45", max_pool_size=50)
        self._variables = {
            "SIBLING_ENGINE__HOST": docker_host,
            "SIBLING_ENGINE__NETWORK": self.name,
            "SIBLING_DATA__VOLUME": self.name,
            "SIBLING_SERVER__PORT": "0",
            "SIBLING_LOG__FORMAT": "json",
            "SIBLING_QUEUE__MIN_FREE_DISK": "1m",
            "SIBLING_QUEUE__DRAIN": "0",
            **{f"SIBLING_{name.upper()}": str(value) for name, value in settings.items()},
        }
        if config:
            (folder / "sibling.toml").write_text(config)
            self._variables["SIBLING_CONFIG"] = str(folder / "sibling.toml")
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "service.log"
        self.client = httpx2.Client()

    def start(self) -> "ServiceProcess":
        before = self.log.stat().st_size if self.log.exists() else 0
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SIBLING_")} | self._variables
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "api", "serve"], env=environment, stdout=output, stderr=output
            )
        try:
            port = until(lambda: self._port(before), READY, "the service's start")
        except AssertionError:
            self.kill()
            raise
        token = (self.data / "admin-token").read_text().strip()
        self.url = f"http://127.0.0.1:{port}"
        self.token = token
        self.client.close()
        self.client = httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False
        )
        return self

    @property
    def data(self) -> Path:
        return Path(self.docker.volumes.get(self.name).attrs["Mountpoint"])

    def environment(self) -> dict[str, str]:
        """What the command line needs to call this service."""
        return {**os.environ, "SIBLING_URL": self.url, "SIBLING_TOKEN": self.token}

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """TERM; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def post(self, **request: object) -> str:
        """Submit a build on busybox and return its id."""
        answer = self.client.post("/v1/builds", json={"image": BUSYBOX, **request})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def build(self, build_id: str) -> dict:
        return self.client.get(f"/v1/builds/{build_id}").raise_for_status().json()

    def wait(self, build_id: str, seconds: float = 60) -> dict:
        """The build once it is finished."""
        deadline = time.monotonic() + seconds
        while True:
            build = self.client.get(f"/v1/builds/{build_id}", params={"wait": "30s"}).raise_for_status().json()
            if build["state"] == "finished":
                return build
            assert time.monotonic() < deadline, f"not finished after {seconds} s: {build}"

    def run(self, **request: object) -> dict:
        return self.wait(self.post(**request))

    def text(self, build_id: str) -> bytes:
        """The whole log."""
        return self.client.get(f"/v1/builds/{build_id}/log", params={"follow": "true"}).raise_for_status().content

    def text_now(self, build_id: str) -> bytes:
        """The log so far."""
        return self.client.get(f"/v1/builds/{build_id}/log").raise_for_status().content

    def streams(self, build_id: str) -> dict[str, bytes]:
        """The log by who wrote it, from the index on the disk: what SSE would say, without its UTF-8."""
        parts: dict[str, bytes] = {"stdout": b"", "stderr": b"", "sibling": b""}
        for stream, data in anyio.run(_entries, self.data / "logs", build_id):
            parts[stream] += data
        return parts

    def containers(self) -> list:
        """What is there of this service's builds on the engine."""
        service = (self.data / "service-id").read_text().strip()
        return self.docker.containers.list(
            all=True, ignore_removed=True, filters={"label": f"sibling.service={service}"}
        )

    def container(self, build_id: str):
        """The build's container, once it runs."""
        return until(
            lambda: next((each for each in self.containers() if each.name == f"sibling-{build_id}"), None),
            what="the build's container",
        )

    def assert_nothing_left(self) -> None:
        # A cell, in which image builds run, is the service's own and waits for the next one.
        until(lambda: not [each for each in self.containers() if "sibling.build" in each.labels], 30, "the removal")
        until(lambda: not list((self.data / "workspaces").iterdir()), 30, "the removal of all workspaces")

    def build_ids(self) -> set[str]:
        """Of all builds that it had, also if it is not running."""
        return {path.name.partition(".")[0] for path in (self.data / "logs").rglob("*") if path.is_file()}

    def destroy(self) -> None:
        """End it and remove all that it made."""
        self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()
        until(self._containers_are_gone, what="the removal of all containers")
        for build in self.build_ids():
            self.remove_image(self.private_name(build))
        for network in self.docker.networks.list(names=[self.name]):
            network.remove()
        # The engine may still be at a container that it was asked for just before the kill.
        until(lambda: self._containers_are_gone() and self._volume_is_gone(), what="the removal of the volume")
        self.docker.close()

    def private_name(self, build_id: str) -> str:
        """What the engine has an image by that this service built."""
        return f"sibling.local/{(self.data / 'service-id').read_text()[:12]}/{build_id}:latest"

    def remove_image(self, tag: str) -> None:
        """Take a tag off the engine, if it is there."""
        with contextlib.suppress(docker.errors.ImageNotFound):
            self.docker.images.remove(tag, force=True)

    def _containers_are_gone(self) -> bool:
        for container in self.containers():
            with contextlib.suppress(docker.errors.APIError):  # it may be on its way already, or just being started
                container.remove(force=True, v=True)
        return not self.containers()

    def _volume_is_gone(self) -> bool:
        try:
            self.docker.volumes.get(self.name).remove(force=True)
        except docker.errors.NotFound:
            return True
        except docker.errors.APIError:  # a container that holds it is on its way
            return False
        return True

    def _port(self, before: int) -> int | None:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the service ended at once:\n{self.log.read_text()}")
        for line in self.log.read_bytes()[before:].decode().splitlines():
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "listening":
                return int(event["port"])
        return None


async def _entries(folder: Path, build_id: str) -> list[tuple[str, bytes]]:
    return [(entry.stream.name.lower(), entry.data) async for entry in BuildLogs(folder).entries(build_id, 0)]
