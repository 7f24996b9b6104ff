"""`sibling gate`, opened, used as any client would, killed and ended; and what holds whatever a build does."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import docker

from agent.gate.create import CAPABILITIES
from tests.e2e.harness import BUSYBOX, image_names, until

API = "/v1.45"
POLICY = """\
images = ["sibling-test/*"]
workspace = "/workspace:{workspace}"
[limits]
memory = "256m"
cpus = 1.0
pids = 256
containers = 6
"""


class GateProcess:
    """One gate of one build, on the real engine."""

    def __init__(self, host: str, build: str, policy: str = POLICY, workspace: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gate-"))  # a socket's path must be short
        self.build = build
        self.host = host
        self.socket = self.folder / "docker.sock"
        self.journal = self.folder / "docker.sock.journal"
        self.files = self.folder / "workspace"
        self.files.mkdir()
        (self.folder / "policy.toml").write_text(policy.format(workspace=workspace or self.files))
        self.engine = docker.DockerClient(base_url=host, version="1.45")
        self.client = self.engine
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> GateProcess:
        words = [sys.executable, "-m", "api", "gate", "--policy", str(self.folder / "policy.toml")]
        words += ["--socket", str(self.socket), "--build", self.build, "--engine", self.host]
        self.log = self.folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, text=True)
        until(self._is_open, 20, "the gate")
        self.client = docker.DockerClient(base_url=f"unix://{self.socket}", version="1.45", timeout=60)
        return self

    def _is_open(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(self.log.read_text())
        return "is open at" in self.log.read_text()

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """The status and the answer's JSON, or its bytes."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        with closing(http.client.HTTPConnection("docker", timeout=60)) as connection:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(60)
            connection.sock.connect(str(self.socket))
            connection.request(method, f"{API}{path}", content, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            data = answer.read()
        try:
            return answer.status, json.loads(data or b"null")
        except ValueError:
            return answer.status, data

    def send(self, raw: bytes) -> bytes:
        """Raw bytes, and all that comes back until it hangs up."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self.socket))
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return answer

    def create(self, name: str = "", **body: Any) -> tuple[int, Any]:
        """POST /containers/create of one that sleeps."""
        whole = {"Image": BUSYBOX, "Cmd": ["sleep", "600"], **body}
        return self.ask("POST", f"/containers/create{f'?name={name}' if name else ''}", whole)

    def own(self) -> list[Any]:
        """What the engine says of the build's containers."""
        filters = {"label": f"sibling.gate={self.build}"}
        return [each.attrs for each in self.engine.containers.list(all=True, filters=filters, ignore_removed=True)]

    def left(self) -> list[str]:
        """Names of all that the engine has of the build."""
        filters = {"label": f"sibling.gate={self.build}"}
        named = {"name": f"^/sibling-gate-{self.build}\\."}  # stand-ins have no label
        things = [each["Name"] for each in self.own()]
        things += [each.name for each in self.engine.containers.list(all=True, filters=named, ignore_removed=True)]
        things += [each.name for each in self.engine.networks.list(filters=filters)]
        things += [each.name for each in self.engine.volumes.list(filters=filters)]
        return things + [tag for tag in image_names(self.engine) if f"/gate-{self.build}/" in tag]

    def assert_promises_kept(self) -> None:
        """What is promised of every container that was made through the gate, as the engine sees it."""
        workspaces = {f"sibling-gate-{self.build}-workspace"}
        for each in self.own():
            host, config = each["HostConfig"], each["Config"]
            assert not host["Privileged"]
            assert set(host["CapAdd"] or ()) <= {f"CAP_{each}" for each in CAPABILITIES}
            assert not host["Devices"]
            assert not host["DeviceRequests"]
            assert not host["Binds"]
            assert not host["SecurityOpt"] or host["SecurityOpt"] == ["no-new-privileges"]
            assert {host[mode] for mode in ("PidMode", "UTSMode", "UsernsMode")} <= {""} | self._joined()
            assert host["IpcMode"] in {"private", "shareable", "none"} | self._joined()
            assert host["NetworkMode"] != "host"
            assert host["CgroupnsMode"] == "private"
            assert 0 < host["Memory"] <= 256 * 1024**2
            assert host["MemorySwap"] == host["Memory"]
            assert 0 < host["NanoCpus"] <= 10**9
            assert 0 < host["PidsLimit"] <= 256
            assert not host["PublishAllPorts"]
            assert config["Labels"]["sibling.gate"] == self.build
            for mount in each["Mounts"]:
                own = mount["Type"] in {"volume", "tmpfs"}
                assert own or mount["Source"] == str(self.socket.resolve()), mount
                volume = self.engine.volumes.get(mount["Name"]).attrs if mount["Type"] == "volume" else None
                assert (
                    volume is None
                    or volume["Name"] in workspaces
                    or not (volume["Options"] or {}).get("device", "").startswith("/")
                )

    def _joined(self) -> set[str]:
        return {f"container:{each['Id']}" for each in self.own()}

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """TERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def destroy(self) -> None:
        """End it, see that nothing is left, and remove what is all the same: it would meet the next run."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        left = self.left()
        filters = {"label": f"sibling.gate={self.build}"}
        for container in self.engine.containers.list(all=True, filters=filters):
            container.remove(force=True, v=True)
        for thing in (*self.engine.networks.list(filters=filters), *self.engine.volumes.list(filters=filters)):
            thing.remove()
        for name in (each for each in left if each.startswith("sibling.local/")):
            self.engine.images.remove(name, force=True)
        for client in (self.client, self.engine):
            client.close()
        shutil.rmtree(self.folder)
        assert left == [], left


def cli(
    gate: GateProcess, *words: str, stdin: bytes | None = None, check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    """Docker's own command line, by the gate."""
    environment = {**os.environ, "DOCKER_HOST": f"unix://{gate.socket}"}
    ended = subprocess.run(
        ["docker", *words], env=environment, input=stdin, capture_output=True, check=False, cwd=gate.files
    )
    assert not check or ended.returncode == 0, ended.stderr.decode()
    return ended
