"""What a build may ask for that costs others memory, disk or time, and what it could find out by that."""

import json
from urllib.parse import quote

import pytest

from tests.e2e.gate_process import cli
from tests.e2e.harness import BUSYBOX, until

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("of", ["containers/json?all=1&", "networks?", "volumes?"])
@pytest.mark.parametrize("pattern", [".{1000}", "(?P<a>x){9}", r"\pL", r"\PL", "\u2028", "x" * 201, "\n"])
def test_no_filter_takes_more_memory_than_its_text(gate, of, pattern):
    status, said = gate.ask("GET", f"/{of}filters={as_query({'name': [pattern]})}")
    assert status == 403, said
    assert "(query)" in said["message"]


def test_no_filter_by_reference_is_long(gate):
    status, said = gate.ask("GET", f"/images/json?filters={as_query({'reference': ['a*' * 101]})}")
    assert status == 403, said


def test_mounts_of_others_and_of_an_image_count(gate):
    gate.create("from", HostConfig={"Tmpfs": {}, "Binds": [f"/workspace:/from/{number}" for number in range(60)]})
    binds = [f"/workspace:/own/{number}" for number in range(41)]
    status, said = gate.create("", HostConfig={"VolumesFrom": ["from"], "Binds": binds})
    assert (status, "more than 100 mounts" in said["message"]) == (403, True)
    assert gate.create("", HostConfig={"VolumesFrom": ["from"], "Binds": binds[:40]})[0] == 201
    status, said = gate.create("", HostConfig={"VolumesFrom": ["from", "from"]})
    assert status == 403, said


def test_changes_of_an_image_do_not_grow(gate):
    gate.create("box")
    grown = [f"ENV a0={'x' * 200}", *(f"ENV a{n + 1}={f'$a{n}' * 10}" for n in range(5))]
    query = "&".join(f"changes={quote(each)}" for each in grown)
    for path in (f"/commit?container=box&repo=grown&{query}", f"/images/create?fromSrc=-&repo=grown&{query}"):
        status, said = gate.ask("POST", path, b"")
        assert (status, "changes" in said["message"]) == (403, True)
    assert cli(gate, "images", "-q", "grown").stdout == b""


@pytest.mark.parametrize("pattern", ["web", "^web$", "^/web", "(db|web)", "w.b", "[v-x]eb", r"we\w", "w?e+b+"])
def test_ordinary_filters_find_what_they_name(gate, pattern):
    gate.create("web")
    gate.create("other")
    _, found = gate.ask("GET", f"/containers/json?all=1&filters={as_query({'name': [pattern]})}")
    assert [each["Names"] for each in found] == [["/web"]]


def test_what_lists_tell_of_a_container_is_limited(gate):
    for asked in (
        {"Labels": {"x": "<" * 20_000}},
        {"Labels": {"x": "\u2028" * 20_000}},
        {"ExposedPorts": {f"{port}/tcp": {} for port in range(1, 1002)}},
        {"ExposedPorts": {"1-65535/tcp": {}}},
    ):
        status, said = gate.create("", **asked)
        assert status == 403, said
    cli(gate, "create", "--name", "box", BUSYBOX)
    cli(gate, "commit", "-c", "EXPOSE 1-600/tcp", "box", "exposing")
    cli(gate, "create", "--name", "more", "exposing")
    cli(gate, "commit", "-c", "EXPOSE 601-1200/tcp", "more", "exposing")
    assert b"more than 1000 ports" in cli(gate, "create", "exposing", check=False).stderr
    cli(gate, "rmi", "exposing")


def test_an_image_is_found_by_the_beginning_of_its_id_among_ones_own_alone(gate, gate_of):
    other = gate_of("limits-other").start()
    cli(other, "create", "--name", "box", BUSYBOX)
    cli(other, "commit", "box", "mine")
    theirs = cli(other, "image", "inspect", "-f", "{{.Id}}", "mine").stdout.decode().strip()
    for beginning in (theirs, theirs[7:], theirs[7:19]):
        assert cli(other, "image", "inspect", beginning).returncode == 0
        assert b"No such image" in cli(gate, "image", "inspect", beginning, check=False).stderr
    shared = gate.engine.images.get(BUSYBOX).id
    assert json.loads(cli(gate, "image", "inspect", shared[7:19]).stdout)[0]["RepoTags"] == [BUSYBOX]


def test_no_image_tells_whether_others_share_its_layers(gate):
    _, found = gate.ask("GET", "/images/json?shared-size=1")
    assert found
    assert {each["SharedSize"] for each in found} == {-1}
    _, usage = gate.ask("GET", "/system/df")
    assert all(each["SharedSize"] == -1 for each in usage["Images"])


def test_refusals_do_not_fill_a_log(gate_of):
    gate = gate_of("limits-log").start()
    for _ in range(150):
        assert gate.ask("GET", f"/{'a' * 10_000}")[0] == 403
    assert gate.log.stat().st_size < 400_000


def as_query(filters):
    return quote(json.dumps(filters))


@pytest.mark.parametrize(
    ("options", "most"), [("", 8192), ("aux", 8192), ("auxww", 8192), ("-o pid,args", 8192), ("e", 8192), ("faux", 512)]
)
def test_no_command_line_is_told_at_full_length(gate, options, most):
    script = 'set -- $(head -c 60000 /dev/zero | tr "\\0" x); exec sh -c "sleep 600; true" $1'
    gate.create("box", Cmd=["sh", "-c", script])
    gate.ask("POST", "/containers/box/start")

    def long_ones():
        status, told = gate.ask("GET", f"/containers/box/top?ps_args={quote(options)}")
        assert status == 200, told
        return [process[-1] for process in told["Processes"] if "xxx" in process[-1]]

    assert max(map(len, until(long_ones, what="the long command"))) <= most
