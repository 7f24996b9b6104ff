"""The doctor finds what is wrong, says the cure, and leaves a running service alone."""

import os
import shutil
import socket
import tempfile
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.build_store.database import Database
from agent.doctor import examine
from agent.engine import EngineInfo
from agent.errors import EngineError, EngineUnavailable
from agent.jenkins_controller import JenkinsController
from agent.settings import AuthSettings, DataSettings, EngineSettings, QueueSettings, Settings
from agent.settings.images import ImageSettings
from agent.settings.registries import RegistrySettings
from agent.tokens import Scope, TokenFile
from tests.e2e.certificate import make_certificate
from tests.e2e.registry import Registry
from tests.fakes.controller import Simulator

NOBODY = 65534
INFO = EngineInfo(
    version="26.1.5",
    api_version="1.45",
    os="Debian",
    cpus=2,
    memory=2**32,
    storage_driver="overlay2",
    has_init=True,
    runtimes=("runc",),
)


class Engine:
    """A healthy engine whose volume is a folder; a verb in `failures` raises that instead."""

    def __init__(self, folder, answer=INFO, **failures):
        self.folder, self.answer, self.failures = folder, answer, failures
        self.closed = False

    def _do(self, verb):
        if verb in self.failures:
            raise self.failures[verb]

    async def info(self):
        self._do("info")
        return self.answer

    async def ensure_network(self, name, labels):
        self._do("ensure_network")

    async def ensure_volume(self, name, labels):
        self._do("ensure_volume")
        return str(self.folder)

    async def list(self, labels):
        return []

    async def close(self):
        self.closed = True


@pytest.fixture
def folder():
    """Not tmp_path: a socket's path must be short, and another user must be able to come here."""
    path = Path(tempfile.mkdtemp(prefix="sibling-doctor-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def listener(folder):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "docker.sock"))
        listening.listen()
        yield listening


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def settings(folder):
    # Any program will do where none is run.
    return Settings(
        engine=EngineSettings(host=f"unix://{folder}/docker.sock"), images=ImageSettings(buildx="/bin/true")
    )


def replaced(settings, **sections):
    return Settings(**(dict(settings) | sections))


async def look(settings, engine):
    findings = await examine(settings, lambda: engine)
    names = [finding.name for finding in findings]
    assert len(set(names)) == len(names)
    return {finding.name: finding for finding in findings}


async def wrong(settings, engine):
    """The one finding that is wrong."""
    (finding,) = [finding for finding in (await look(settings, engine)).values() if not finding.ok]
    return finding


@contextmanager
def as_nobody():
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.anyio
async def test_all_is_well_on_a_good_machine(settings, listener, data):
    engine = Engine(data)
    findings = await look(settings, engine)
    assert {name: finding.detail for name, finding in findings.items() if not finding.ok} == {}
    assert set(findings) == {
        *("settings", "tokens", "busybox", "git", "buildx", "memory", "disk", "store"),
        *("socket", "engine", "init", "limits", "network", "volume"),
    }
    assert engine.closed
    assert list(data.iterdir()) == []


# --- the socket


@pytest.mark.anyio
async def test_a_missing_socket_is_told_and_the_engine_not_asked(settings, folder, data):
    finding = await wrong(settings, None)
    assert finding.name == "socket"
    assert finding.detail == f"There is no {folder}/docker.sock."
    assert "systemctl start docker" in finding.cure


@pytest.mark.anyio
async def test_a_socket_that_nobody_listens_at_is_told(settings, folder, listener):
    listener.close()
    finding = await wrong(settings, None)
    assert finding.detail.startswith(f"No engine answers at {folder}/docker.sock: [Errno 111]")
    assert "systemctl restart docker" in finding.cure


@pytest.mark.anyio
async def test_a_socket_of_another_group_is_told_with_the_group(settings, folder, listener):
    os.chown(folder / "docker.sock", 0, 54321)
    (folder / "docker.sock").chmod(0o660)
    with as_nobody():
        finding = await wrong(settings, None)
    assert finding.detail == f"This user may not use {folder}/docker.sock."
    assert "usermod -aG 54321 USER" in finding.cure
    assert "`--group-add 54321`" in finding.cure


@pytest.mark.anyio
async def test_a_folder_that_hides_the_socket_is_told(settings, folder, listener):
    folder.chmod(0o700)
    with as_nobody():
        finding = await wrong(settings, None)
    assert finding.cure == f"Let this user into the folder {folder}."


@pytest.mark.anyio
async def test_a_path_that_no_socket_can_have_is_told():
    finding = await wrong(Settings(engine=EngineSettings(host=f"/{'x' * 200}")), None)
    assert "path too long" in finding.detail


# --- the engine


@pytest.mark.anyio
async def test_an_engine_that_does_not_answer_is_told_and_let_go(settings, listener, data):
    engine = Engine(data, info=EngineUnavailable("no answer"))
    finding = await wrong(settings, engine)
    assert (finding.name, finding.detail) == ("engine", "no answer")
    assert "journalctl -u docker" in finding.cure
    assert engine.closed


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("verb", "name"), [("info", "engine"), ("ensure_network", "network"), ("ensure_volume", "volume")]
)
async def test_what_the_engine_refuses_is_told_in_its_words(settings, listener, data, verb, name):
    finding = await wrong(settings, Engine(data, **{verb: EngineError("API 1.40; Sibling needs 1.45")}))
    assert (finding.name, finding.detail) == (name, "API 1.40; Sibling needs 1.45")


@pytest.mark.anyio
async def test_an_engine_without_init_is_told(settings, listener, data):
    finding = await wrong(settings, Engine(data, replace(INFO, has_init=False)))
    assert (finding.name, finding.cure) == ("init", "`apt-get install tini`")


@pytest.mark.anyio
async def test_an_unknown_runtime_is_told_with_those_that_are_known(settings, listener, data):
    host = settings.engine.host
    finding = await wrong(replaced(settings, engine=EngineSettings(host=host, runtime="runsc")), Engine(data))
    assert finding.detail == "The engine knows no runtime runsc, only runc."
    assert (await look(replaced(settings, engine=EngineSettings(host=host, runtime="runc")), Engine(data)))["init"].ok


@pytest.mark.anyio
async def test_a_volume_that_we_cannot_see_is_told_with_the_cure_in_the_sentence(settings, listener, tmp_path):
    finding = await wrong(replaced(settings, data=DataSettings(volume="v1")), Engine(tmp_path / "gone"))
    assert finding.name == "volume"
    assert "Run the service as root on the engine's own host" in finding.detail


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["memory", "disk"])
async def test_too_little_memory_or_disk_is_told_with_the_setting(settings, listener, data, name):
    finding = await wrong(replaced(settings, queue=QueueSettings(**{f"min_free_{name}": "4000t"})), Engine(data))
    assert finding.name == name
    assert finding.cure == f"Free some, or lower queue.min_free_{name}."


# --- the store


@pytest.mark.anyio
async def test_a_running_service_keeps_its_store_and_is_told_as_fine(settings, listener, data):
    with closing(Database(data / "builds.db")) as database:
        store = (await look(settings, Engine(data)))["store"]
        assert store.ok
        assert "a service is running on it" in store.detail
        database.check()
    assert "no service runs on it" in (await look(settings, Engine(data)))["store"].detail
    Database(data / "builds.db").close()


@pytest.mark.anyio
async def test_a_broken_store_is_told(settings, listener, data):
    (data / "builds.db").write_bytes(b"nothing of the kind" * 100)
    finding = await wrong(settings, Engine(data))
    assert "cannot be read: file is not a database" in finding.detail
    assert "backup" in finding.cure


@pytest.mark.anyio
async def test_a_store_of_a_newer_version_is_told_and_not_touched(settings, listener, data):
    with closing(Database(data / "builds.db")) as database, database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = (data / "builds.db").read_bytes()
    assert "newer Sibling" in (await wrong(settings, Engine(data))).detail
    assert (data / "builds.db").read_bytes() == before


# --- what else a build needs


@pytest.mark.anyio
async def test_tokens_are_counted_and_none_at_all_is_told(settings, listener, data, tmp_path):
    tokens = TokenFile(tmp_path / "tokens")
    guarded = replaced(settings, auth=AuthSettings(token_file=tmp_path / "tokens"))
    assert "make a token file with `sibling token create`" in (await wrong(guarded, Engine(data))).detail
    tokens.create("ci", [Scope.READ])
    assert (await look(guarded, Engine(data)))["tokens"].detail == f"1 in {tmp_path}/tokens"
    tokens.revoke("ci")
    assert (await wrong(guarded, Engine(data))).cure == "`sibling token create NAME --scope admin`"


@pytest.mark.anyio
async def test_a_machine_without_git_is_told(settings, listener, data, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = await wrong(settings, Engine(data))
    assert (finding.name, finding.cure) == ("git", "`apt-get install git`")


@pytest.mark.anyio
async def test_a_machine_without_buildx_is_told(settings, listener, data, tmp_path):
    without = replaced(settings, images=ImageSettings(buildx=tmp_path / "none"))
    finding = await wrong(without, Engine(data))
    assert (finding.name, "docker-buildx" in finding.cure) == ("buildx", True)


@pytest.mark.anyio
async def test_image_builds_that_nothing_limits_are_told(settings, listener, data):
    engine = Engine(data, replace(INFO, cgroup_driver="systemd"))
    finding = await wrong(settings, engine)
    assert (finding.name, "images.cgroup_parent" in finding.cure) == ("limits", True)
    sliced = replaced(settings, images=ImageSettings(buildx="/bin/true", cgroup_parent="sibling.slice"))
    engine = Engine(data, replace(INFO, cgroup_driver="systemd"))
    assert "sibling.slice" in (await look(sliced, engine))["limits"].detail


@pytest.mark.anyio
async def test_a_registry_whose_password_is_missing_is_told(settings, listener, data, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        host = f"127.0.0.1:{closed.getsockname()[1]}"
    table = RegistrySettings(host=host, username="ci", password_file=tmp_path / "password")
    finding = await wrong(replaced(settings, registries={"example": table}), Engine(data))
    assert finding.name == "registry example"
    assert str(tmp_path / "password") in finding.detail
    (tmp_path / "password").touch(0o600)
    (tmp_path / "password").write_text("hunter2")
    down = await wrong(replaced(settings, registries={"example": table}), Engine(data))
    assert (down.name, "refused" in down.detail) == ("registry example", True)


@pytest.mark.anyio
async def test_a_registry_is_asked_as_its_settings_say(settings, listener, data, tmp_path):
    certificate = make_certificate(tmp_path)
    (tmp_path / "registry").mkdir()
    with Registry(tmp_path / "registry", users=("ci",), certificate=certificate) as registry:

        async def found(**parts):
            table = RegistrySettings(host=registry.address, **parts)
            return (await look(replaced(settings, registries={"x": table}), Engine(data)))["registry x"]

        assert "certificate" in (await found()).detail
        assert (await found(ca_file=certificate.authority)).detail == f"{registry.address} answers; without a login"
        assert (await found(insecure=True)).ok


class TestController:
    @pytest.fixture
    def controller(self):
        with Simulator() as simulator:
            yield simulator

    def findings(self, found):
        return {finding.name: finding for finding in found}

    def connect(self, simulator, user=None, token=None):
        token = token or simulator.token
        return JenkinsController(simulator.url, user=user or simulator.user, token=lambda: token, timeout=5)

    @pytest.mark.anyio
    async def test_permissions_are_named_one_by_one(self, controller, tmp_path):
        token = controller.add_user(
            "weak", {"Overall/Read", "Agent/Create", "Agent/Delete", "Agent/Connect", "Job/Read"}
        )
        found = self.findings(
            await examine(Settings(), lambda: Engine(tmp_path), self.connect(controller, "weak", token))
        )
        assert found["jenkins"].ok
        assert found["permission Agent/Create"].ok
        assert not found["permission Agent/Configure"].ok
        assert "Agent/Configure" in found["permission Agent/Configure"].cure
        assert not controller.nodes.keys() & {"sibling-probe-doctor"}

    @pytest.mark.anyio
    async def test_a_wrong_token_is_told(self, controller, tmp_path):
        found = self.findings(
            await examine(Settings(), lambda: Engine(tmp_path), self.connect(controller, token="11" + "0" * 32))
        )
        assert not found["jenkins"].ok
        assert "token" in found["jenkins"].detail
