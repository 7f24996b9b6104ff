"""Names are of the build: two builds have the same, and each means its own."""

import subprocess

import pytest

from tests.e2e.gate_process import cli
from tests.e2e.harness import BUSYBOX

pytestmark = pytest.mark.engine


def test_two_builds_have_the_same_names(gate_of):
    """And neither is shown anything of the prefix that keeps them apart on the engine."""
    gates = [gate_of(build).start() for build in ("same-a", "same-b")]
    for gate in gates:
        cli(gate, "network", "create", "net")
        cli(gate, "volume", "create", "data")
        cli(
            gate,
            "run",
            "-d",
            "--name",
            "sql",
            "--network",
            "net",
            "-v",
            "data:/d",
            "--cidfile",
            gate.files / "id",
            BUSYBOX,
            "sh",
            "-c",
            "echo 1 >/d/x; sleep 60",
        )
    for gate in gates:
        own = (gate.files / "id").read_text()
        for words in (
            ["inspect", "sql"],
            ["ps", "--no-trunc", "--format", "json"],
            ["network", "inspect", "net"],
            ["network", "ls", "--format", "json"],
            ["volume", "inspect", "data"],
            ["volume", "ls", "--format", "json"],
            ["stats", "--no-stream", "--format", "{{.Name}} {{.Container}}"],
            ["events", "--since", "1h", "--until", "0s", "--format", "json"],
            ["start", "none"],
            ["rename", "sql", "sql"],
        ):
            ran = cli(gate, *words, check=False)
            assert b"sibling-gate-" not in (ran.stdout + ran.stderr).replace(
                f'sibling-gate-{gate.build}"'.encode(), b""
            ), words
        assert cli(gate, "ps", "-q", "--no-trunc", "--filter", "name=^/sql$").stdout.decode().split() == [own]
        assert cli(gate, "ps", "-q", "--no-trunc", "--filter", "volume=data").stdout.decode().split() == [own]
        assert cli(gate, "ps", "-q", "--no-trunc", "--filter", "network=net").stdout.decode().split() == [own]
        assert cli(gate, "network", "ls", "-q", "--filter", "name=bridge").stdout
        assert (
            cli(gate, "run", "--rm", "--network", "net", BUSYBOX, "ping", "-c", "1", "-w", "2", "sql").returncode == 0
        )
        assert cli(gate, "run", "--rm", "--volumes-from", "sql", BUSYBOX, "cat", "/d/x").stdout == b"1\n"
        assert b"in use" in cli(gate, "create", "--name", "sql", BUSYBOX, check=False).stderr
        cli(gate, "rename", "sql", "store")
        assert cli(gate, "exec", "store", "hostname").returncode == 0
        assert b"No such container: sql" in cli(gate, "exec", "sql", "true", check=False).stderr


def test_a_name_goes_before_the_beginning_of_an_id(gate):
    made = gate.create("first")[1]["Id"]
    other = gate.create(made[:12])[1]["Id"]
    assert gate.ask("GET", f"/containers/{made[:12]}/json")[1]["Id"] == other
    assert gate.ask("GET", f"/containers/{made[:13]}/json")[1]["Id"] == made
    assert gate.ask("GET", f"/containers/{made}/json")[1]["Id"] == made


def test_a_volume_that_the_engine_named_can_be_mounted(gate):
    name = cli(gate, "volume", "create").stdout.decode().strip()
    cli(gate, "run", "--rm", "-v", f"{name}:/d", BUSYBOX, "touch", "/d/file")
    assert cli(gate, "run", "--rm", "-v", f"{name}:/d", BUSYBOX, "ls", "/d").stdout == b"file\n"
    cli(gate, "volume", "rm", name)


def test_anothers_volume_is_not_to_be_had_by_its_name(gate, foreign):
    """A name that is not the build's own makes a volume of its own."""
    gate.ask("POST", "/volumes/create", {"Name": "foreign-names"})
    assert gate.create(HostConfig={"Binds": ["foreign-names:/v"]})[0] == 201
    assert foreign["volume"].id not in {
        mount.get("Name")
        for each in gate.engine.containers.list(all=True, filters={"label": "sibling.gate=shared-names"})
        for mount in each.attrs["Mounts"]
    }
    cli(gate, "rm", "-f", *cli(gate, "ps", "-aq").stdout.decode().split())
    cli(gate, "volume", "rm", "foreign-names")
    foreign["volume"].reload()


def test_the_newest_of_a_name_is_meant_where_the_engine_removed_the_others(gate):
    for _ in range(2):
        cli(gate, "run", "--rm", "--name", "again", BUSYBOX, "true")
    cli(gate, "run", "-d", "--name", "again", BUSYBOX, "sleep", "60")
    assert cli(gate, "inspect", "-f", "{{.State.Status}}", "again").stdout == b"running\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["logs", "my app"], "No such container: my app"),
        (["exec", "a|b", "ls"], "No such container: a|b"),
        (["rm", "50%{}"], "No such container: 50%{}"),
        (["cp", "a b:/x", "x"], "No such container: a b"),
        (["network", "rm", "a b"], "network a b not found"),
        (["volume", "rm", "a b"], "get a b: no such volume"),
        (["rmi", "team/x:<none>"], "invalid reference format"),
        (["inspect", "a b"], "No such object: a b"),
    ],
)
def test_a_name_that_nothing_can_have_is_told_as_the_engine_does(gate, docker_host, words, said):
    for host in (docker_host, f"unix://{gate.socket}"):
        ran = subprocess.run(["docker", "-H", host, *words], capture_output=True, check=False, text=True)
        assert (ran.returncode, said in ran.stderr) == (1, True), ran.stderr
