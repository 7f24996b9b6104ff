"""The service's logins reach the registry, count at once when they change, and are shown nowhere."""

import base64
import json
import os
import shutil
import subprocess
import sys

import pytest

from agent.errors import InvalidSettings
from agent.references import parse
from agent.registries import Login, Registries
from agent.settings.registries import RegistrySettings
from tests.fakes.registry import Registry

PASSWORD = "hunter2-s3cret"

pytestmark = pytest.mark.anyio


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def registries(password_file):
    return Registries({"team": table(username="ci", password_file=password_file)})


def table(host="registry.example", **settings):
    return RegistrySettings(host=host, **settings)


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Writes `docker-credential-NAME`, whose program is Python with `asked`, what it was asked on stdin."""

    def write(name, text):
        path = tmp_path / "bin" / f"docker-credential-{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable}\nimport json, sys\nasked = sys.stdin.read()\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)

    return write


def refused(registries):
    with pytest.raises(InvalidSettings) as refusal:
        registries.logins()
    assert PASSWORD not in str(refusal.value)
    assert refusal.value.__cause__ is None or PASSWORD not in repr(refusal.value.__cause__)
    return str(refusal.value)


async def test_a_login_is_the_user_and_what_the_file_holds(registries):
    assert await registries.login("registry.example") == Login("ci", PASSWORD)
    assert registries.logins() == {"registry.example": Login("ci", PASSWORD)}


async def test_a_registry_without_a_login_is_everybody_s(registries):
    assert await registries.login("docker.io") is None
    assert await registries.login("registry.example:443") is None
    assert Registries({"hub": table("docker.io", mirror="mirror.example")}).logins() == {}


async def test_a_new_password_counts_at_once(registries, password_file):
    password_file.write_text("another")
    assert await registries.login("registry.example") == Login("ci", "another")


def test_a_login_does_not_show_its_password():
    login = Login("ci", PASSWORD)
    assert PASSWORD not in repr(login)
    assert PASSWORD not in str({"login": login})


# --- a password that cannot be used


def test_a_file_that_others_can_read_is_refused(registries, password_file):
    password_file.chmod(0o640)
    assert refused(registries) == (
        f"registries.team.password_file: Others can use {password_file}, mode 0640; run `chmod 600 {password_file}`."
    )


def test_a_missing_file_is_told_by_its_setting(registries, password_file):
    password_file.unlink()
    assert refused(registries).startswith(
        f"registries.team.password_file, {password_file}, cannot be read: No such file"
    )


def test_an_empty_file_is_told_by_its_setting(registries, password_file):
    password_file.write_text("\n")
    assert refused(registries).startswith(f"registries.team.password_file, {password_file}, is empty; put ")


# --- credential helpers


TELLS = f"print(json.dumps({{'ServerURL': asked, 'Username': sys.argv[1] + ' ' + asked, 'Secret': '{PASSWORD}'}}))"


@pytest.mark.parametrize(
    ("host", "asked"),
    [("registry.example:5000", "registry.example:5000"), ("docker.io", "https://index.docker.io/v1/")],
)
async def test_a_helper_is_asked_by_the_protocol(helper, host, asked):
    helper("team", TELLS)
    registries = Registries({"team": table(host, credential_helper="team")})
    assert await registries.login(host) == Login(f"get {asked}", PASSWORD)


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (
            "print('credentials not found in native keychain'); sys.exit(1)",
            ": credentials not found in native keychain;",
        ),
        (f"{TELLS}; sys.exit(1)", "it ended with 1; log in"),
        (f'print(\'{{"Username": "ci", "Secret": "{PASSWORD}"\'); sys.exit(3)', "it ended with 3; log in"),
        (f"print('{PASSWORD}')", "did not tell a login for registry.example as JSON"),
        (f"print(json.dumps(['{PASSWORD}']))", "did not tell a login"),
        (f"print(json.dumps({{'Username': 1, 'Secret': '{PASSWORD}'}}))", "did not tell a login"),
        ("print(json.dumps({'Username': 'ci', 'Secret': ''}))", "did not tell a login"),
        (f"sys.stderr.write('{PASSWORD}'); sys.stdout.buffer.write(b'\\xff\\xfe')", "did not tell a login"),
    ],
)
def test_a_helper_without_a_login_is_told_by_its_setting_and_shows_none(helper, program, sentence):
    helper("team", program)
    told = refused(Registries({"team": table(credential_helper="team")}))
    assert told.startswith("registries.team.credential_helper: docker-credential-team ")
    assert sentence in told


def test_a_helper_that_is_not_installed_is_told_by_its_setting():
    told = refused(Registries({"team": table(credential_helper="none-such")}))
    assert told == (
        "registries.team.credential_helper: docker-credential-none-such cannot be run: No such file or directory; "
        "install it on the PATH of the service"
    )


def test_a_helper_that_says_nothing_is_not_waited_for_forever(helper, monkeypatch):
    monkeypatch.setattr("agent.registries._HELPER_TIMEOUT", 0.5)
    helper("team", f"import time; print('{PASSWORD}', flush=True); time.sleep(600)")
    told = refused(Registries({"team": table(credential_helper="team")}))
    assert "docker-credential-team did not tell the login for registry.example within 0.5 s" in told


# --- Docker's configuration


def test_docker_s_configuration_has_every_login_by_the_name_that_docker_has(helper, password_file, tmp_path):
    helper("token", f"print(json.dumps({{'Username': '<token>', 'Secret': '{PASSWORD}'}}))")
    registries = Registries(
        {
            "hub": table("docker.io", username="ci", password_file=password_file),
            "team": table("registry.example:5000", username="ci", password_file=password_file),
            "cloud": table("cloud.example", credential_helper="token"),
            "open": table("open.example"),
        }
    )
    registries.write_docker_config(tmp_path)
    auth = {"auth": base64.b64encode(f"ci:{PASSWORD}".encode()).decode()}
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "auths": {
            "https://index.docker.io/v1/": auth,
            "registry.example:5000": auth,
            "cloud.example": {"identitytoken": PASSWORD},
        }
    }
    assert (tmp_path / "config.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.engine
@pytest.mark.parametrize(("password", "works"), [(PASSWORD, True), ("another", False)])
def test_buildx_logs_in_with_it(docker_host, tmp_path, password_file, password, works):
    password_file.write_text(password)
    config = tmp_path / "config"
    config.mkdir()
    with Registry(os.urandom(8), login=f"ci:{PASSWORD}") as registry:
        host = registry.reference.partition("/")[0]
        Registries({"t": table(host, username="ci", password_file=password_file)}).write_docker_config(config)
        done = subprocess.run(
            [_buildx(), "build", "--builder=default", "--output=type=cacheonly", "-"],
            input=f"FROM {registry.reference}\nCOPY --from={registry.reference} /made-by /x\n",
            env=os.environ | {"DOCKER_CONFIG": str(config), "BUILDX_CONFIG": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode == 0) is works, done.stderr
    assert PASSWORD not in done.stderr


def _buildx():
    """The plugin itself, since Docker looks for its plugins in the configuration that the test replaces."""
    told = subprocess.run(
        [shutil.which("docker"), "info", "--format={{json .ClientInfo.Plugins}}"], capture_output=True, check=True
    )
    return next(plugin["Path"] for plugin in json.loads(told.stdout) if plugin["Name"] == "buildx")


# --- mirrors


@pytest.mark.parametrize(
    ("image", "pulled"),
    [
        ("python", "mirror.example/hub/library/python:latest"),
        ("team/app:1", "mirror.example/hub/team/app:1"),
        ("python@sha256:" + "a" * 64, "mirror.example/hub/library/python@sha256:" + "a" * 64),
        ("registry.example:5000/app", "localhost:6000/app:latest"),
        ("registry.example/app", None),
        ("docker.io.evil/app", None),
    ],
)
def test_a_mirror_is_asked_in_the_place_of_its_registry(image, pulled):
    registries = Registries(
        {
            "hub": table("docker.io", mirror="mirror.example/hub"),
            "team": table("registry.example:5000", mirror="localhost:6000"),
            "open": table("open.example"),
        }
    )
    assert registries.mirrored(parse(image)) == pulled
    assert registries.mirrors() == {"docker.io": "mirror.example/hub", "registry.example:5000": "localhost:6000"}
