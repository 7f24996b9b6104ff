"""A build store on the disk, with a clock that the test sets; what agents run on; settings files."""

import os
import subprocess
from pathlib import Path

import pytest

from agent import toolkit
from agent.build_store import BuildStore
from agent.busybox import find_static_busybox
from agent.errors import InvalidSettings
from agent.settings import load_settings
from agent.toolkit import agents
from api.client_zipapp import zipapp
from tests.agent.agent_steps import AgentContainers, AgentVolume, compiled
from tests.agent.store_steps import KEY, Clock

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "builds.db"


@pytest.fixture
def store(path, clock):
    store = BuildStore(path, KEY, clock)
    yield store
    store.close()


@pytest.fixture(scope="session")
def jdk():
    """The home of a JDK, which is installed if there is none."""
    found = subprocess.run([SCRIPTS / "java"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return Path(found.stdout.strip())


@pytest.fixture(scope="session")
def probe(jdk, tmp_path_factory):
    """The jar of `Probe`, which takes the place of the agent program."""
    return compiled(jdk, tmp_path_factory.mktemp("probe"), Path(__file__).with_name("Probe.java"))


@pytest.fixture(scope="session")
def runtime(jdk, tmp_path_factory):
    """The folder of a runtime of the JDK, which takes seconds to make; see `share_runtime`."""
    data = tmp_path_factory.mktemp("runtime")
    agents.install_agent(data, toolkit.install(data, find_static_busybox(), zipapp()), jdk, b"")
    return next(path.parent for path in data.glob("toolkit/*/jre") if not (path.parent / "enter").exists())


@pytest.fixture(scope="session")
def agent_volume(docker_host, jdk, runtime, probe):
    """A volume on the engine with an agents' toolkit, whose program is `Probe`."""
    volume = AgentVolume(docker_host, jdk, runtime, probe)
    yield volume
    volume.destroy()


@pytest.fixture
async def containers(agent_volume):
    """Agents of that toolkit, in a workspace of the test's own."""
    containers = AgentContainers(agent_volume)
    yield containers
    await containers.close()


@pytest.fixture
def load(monkeypatch, tmp_path):
    """Loads a settings file with that text, from an environment without our variables."""
    for name in [name for name in os.environ if name.upper().startswith("SIBLING_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def loaded(text):
        (tmp_path / "sibling.toml").write_text(text)
        return load_settings()

    return loaded


@pytest.fixture
def refused(load):
    """The sentences, a line each, that refuse a settings file with that text."""

    def told(text):
        with pytest.raises(InvalidSettings) as refusal:
            load(text)
        return str(refusal.value).splitlines()

    return told
