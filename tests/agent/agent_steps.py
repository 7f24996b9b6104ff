"""A Java for agents, made once for all tests, and agents' containers on a real engine."""

import io
import os
import secrets
import shutil
import subprocess
import zipfile
from contextlib import suppress
from pathlib import Path

import docker

from agent import toolkit
from agent.busybox import find_static_busybox
from agent.docker_engine import DockerEngine
from agent.engine import Mount
from agent.toolkit import agents
from api.client_zipapp import zipapp
from tests.contracts.subject import ERR, MIB, OUT, Subject, Task, collect

SECRET = secrets.token_hex(32)


def compiled(jdk, folder, source):
    """A jar of one class, which it runs."""
    for command in (
        ["javac", "-encoding", "UTF-8", "--release", "17", "-d", "classes", source],
        ["jar", "--create", "--file", "agent.jar", "--main-class", source.stem, "-C", "classes", "."],
    ):
        subprocess.run([jdk / "bin" / command[0], *command[1:]], cwd=folder, capture_output=True, check=True)
    return (folder / "agent.jar").read_bytes()


def another(jar):
    """The same program as another jar."""
    content = io.BytesIO(jar)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(secrets.token_hex(4), "")
    return content.getvalue()


def share_runtime(runtime, data):
    """Let a data folder have the runtime that was made already, as if it had been made there."""

    def link_or_copy(source, target):
        try:
            os.link(source, target)
        except OSError:  # on another file system
            shutil.copy2(source, target)

    folder = data / "toolkit" / runtime.name
    folder.parent.mkdir(exist_ok=True)
    shutil.copytree(runtime, folder, symlinks=True, copy_function=link_or_copy)
    folder.chmod(0o755)


def agent_task(name="ends", **parts):
    return toolkit.agent_task(
        **{"url": "http://jenkins/", "name": name, "secret": SECRET, "heap": 64 * MIB, "archive": False, **parts}
    )


class KitVolume:
    """A volume with the builds' toolkit in it, removed with all that was made on it."""

    def __init__(self, docker_host, client=None):
        self.docker_host = docker_host
        self.docker = docker.DockerClient(base_url=docker_host, version="1.45")
        self.volume = self.docker.volumes.create(f"sibling-test-{secrets.token_hex(4)}")
        self.data = Path(self.volume.attrs["Mountpoint"])
        self.base = toolkit.install(self.data, find_static_busybox(), client or zipapp())

    def destroy(self):
        self.volume.remove(force=True)
        self.docker.close()


class AgentVolume(KitVolume):
    """The same with the agents' toolkit."""

    def __init__(self, docker_host, jdk, runtime, jar):
        super().__init__(docker_host)
        self.jdk = jdk
        share_runtime(runtime, self.data)
        self.kit = self.install(jar)

    def install(self, jar):
        return agents.install_agent(self.data, self.base, self.jdk, jar)


class AgentContainers:
    """Runs agents of one toolkit for one test. `workspace` is theirs."""

    def __init__(self, volume, kit=None):
        self.volume = volume
        self.kit = kit or volume.kit
        self.subject = Subject(DockerEngine(volume.docker_host, timeout=30, stream_limit=32, pull_timeout=30))
        self.engine = self.subject.engine
        self.workspace = volume.data / secrets.token_hex(4)
        self.workspace.mkdir()
        self.workspace.chmod(0o777)

    def parts(self, image, **parts):
        """What policy gives an agent, as far as it matters here."""
        mounts = [(self.workspace.name, toolkit.WORKSPACE, False), (self.kit, toolkit.TARGET, True)]
        return {
            "image": image,
            "entrypoint": toolkit.ENTRYPOINT,
            "env": {"TINI_KILL_PROCESS_GROUP": "1", **parts.pop("env", {})},
            "workdir": toolkit.WORKSPACE,
            "mounts": [Mount(volume=self.volume.volume.name, subpath=s, target=t, read_only=r) for s, t, r in mounts],
            "tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={parts.pop('tmp_size', '64m')}"},
            "memory": 512 * MIB,
            "pids": 200,
            **parts,
        }

    async def run(self, image, task, **parts):
        """Its exit code, and its lines on standard output and on standard error."""
        _, told, status = await self.subject.run(Task(""), task, **self.parts(image, **parts))
        return status.exit_code, told[OUT].decode().splitlines(), told[ERR].decode().splitlines()

    async def started(self, image, task, ready=b"ready\n", **parts):
        """The container, once it wrote that."""
        container, stream = await self.subject.started(Task(""), task, **self.parts(image, **parts))
        assert ready in (await collect(stream, ready))[OUT]
        return container

    async def close(self):
        await self.subject.clean()
        await self.engine.close()
        with suppress(FileNotFoundError):
            shutil.rmtree(self.workspace)
