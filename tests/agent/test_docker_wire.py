"""Docker's words are taken from real answers of Engine 26."""

import io
import json
import tarfile
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.docker_engine import wire
from agent.engine import Container, ContainerSpec, EngineInfo, Mount, MountPoint, Usage
from agent.errors import EngineError, ImageUnavailable

MIB = 1024**2
SPEC = ContainerSpec(
    image="docker.io/library/python:3.12",
    entrypoint=("/opt/sibling/bin/busybox", "sh", "/opt/sibling/enter"),
    env={"CI": "true", "SPACED": "a b=c"},
    labels={"sibling.build": "b1"},
    workdir="/workspace",
    user="1000:1000",
    network="sibling",
    mounts=(
        Mount(volume="sibling-data", subpath="workspaces/b1", target="/workspace"),
        Mount(volume="sibling-data", subpath="toolkit/1", target="/opt/sibling", read_only=True),
    ),
    tmpfs={"/tmp": "rw,size=1g"},
    cpus=1.5,
    memory=512 * MIB,
    pids=100,
    shm_size=64 * MIB,
    cap_add=("CHOWN", "SETUID"),
    log_size=1_000_000,
    runtime="runsc",
)
INFO = {
    "OperatingSystem": "Debian GNU/Linux 13 (trixie)",
    "NCPU": 2,
    "MemTotal": 25276502016,
    "Driver": "overlay2",
    "CgroupDriver": "systemd",
    "InitBinary": "docker-init",
    "InitCommit": {"ID": "", "Expected": ""},
    "Runtimes": {"runc": {"path": "runc"}, "io.containerd.runc.v2": {"path": "runc"}},
    "Warnings": None,
}
VERSION = {"Version": "26.1.5", "ApiVersion": "1.45"}
STATE = {
    "ExitCode": 3,
    "OOMKilled": False,
    "Error": "",
    "StartedAt": "2026-11-24T03:40:38.519334934Z",
    "FinishedAt": "2026-11-24T03:40:38.55Z",
}


def test_the_body_says_all_that_the_spec_says():
    body = wire.create_body(SPEC)
    host = body.pop("HostConfig")
    assert body == {
        "Image": "docker.io/library/python:3.12",
        "Entrypoint": ["/opt/sibling/bin/busybox", "sh", "/opt/sibling/enter"],
        "Cmd": [],
        "Env": ["CI=true", "SPACED=a b=c"],
        "Labels": {"sibling.build": "b1"},
        "WorkingDir": "/workspace",
        "User": "1000:1000",
        "Tty": False,
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
    }
    assert host["Mounts"] == [
        {
            "Type": "volume",
            "Source": "sibling-data",
            "Target": "/workspace",
            "ReadOnly": False,
            "VolumeOptions": {"NoCopy": True, "Subpath": "workspaces/b1"},
        },
        {
            "Type": "volume",
            "Source": "sibling-data",
            "Target": "/opt/sibling",
            "ReadOnly": True,
            "VolumeOptions": {"NoCopy": True, "Subpath": "toolkit/1"},
        },
    ]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (1_500_000_000, 512 * MIB, 512 * MIB)
    assert (host["PidsLimit"], host["ShmSize"], host["Tmpfs"]) == (100, 64 * MIB, {"/tmp": "rw,size=1g"})
    assert (host["NetworkMode"], host["Runtime"]) == ("sibling", "runsc")


def test_the_body_gives_no_right_that_was_not_asked_for():
    host = wire.create_body(SPEC)["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] == ["CHOWN", "SETUID"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["IpcMode"], host["CgroupnsMode"], host["Init"]) == ("private", "private", True)
    assert not host.keys() & {"Privileged", "Binds", "Devices", "PidMode", "UsernsMode", "PortBindings", "GroupAdd"}


def test_the_log_is_kept_byte_for_byte_in_one_file_that_holds_as_much_as_asked():
    config = wire.create_body(SPEC)["HostConfig"]["LogConfig"]
    assert config == {"Type": "local", "Config": {"max-size": "28000000", "max-file": "1", "compress": "false"}}


def test_what_the_spec_leaves_to_the_image_or_the_engine_is_not_in_the_body():
    body = wire.create_body(
        ContainerSpec(**{name: getattr(SPEC, name) for name in SPEC.__slots__} | {"user": None, "runtime": None})
    )
    assert "User" not in body
    assert "Runtime" not in body["HostConfig"]


@given(st.integers(0, 7_000_000_000), st.text("0123456789", max_size=9))
def test_times_are_read_to_the_microsecond_whatever_their_digits(seconds, digits):
    text = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{'.' if digits else ''}{digits}Z"
    assert wire.epoch(text) == pytest.approx(seconds + float(f"0.{digits}0"), abs=2e-6, rel=0)


def test_how_a_container_ended_is_in_its_state():
    status = wire.exit_status("wait for it", STATE | {"OOMKilled": True, "Error": "words"})
    assert (status.exit_code, status.oom_killed, status.error) == (3, True, "words")
    assert status.finished_at - status.started_at == pytest.approx(0.030665, abs=1e-6)


def test_a_state_of_a_container_that_was_never_started_is_no_exit():
    state = STATE | {"StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z", "ExitCode": 0}
    with pytest.raises(EngineError, match=r"could not wait for it: it was never started\. network x not found"):
        wire.exit_status("wait for it", state | {"Error": "network x not found"})


def test_containers_are_the_same_listed_and_inspected():
    labels = {"sibling.build": "b1"}
    expected = Container(id="f" * 64, name="sibling-b1", state="running", labels=labels, created_at=1795491547)
    assert expected == wire.listed_container(
        {"Id": "f" * 64, "Names": ["/sibling-b1"], "State": "running", "Labels": labels, "Created": 1795491547}
    )
    assert expected == wire.inspected_container(
        {
            "Id": "f" * 64,
            "Name": "/sibling-b1",
            "State": {"Status": "running"},
            "Config": {"Labels": labels},
            "Created": "2026-11-24T03:39:07Z",
        }
    )


def test_a_mount_is_named_by_its_volume_or_the_hosts_path():
    volume = {"Type": "volume", "Name": "data", "Source": "/var/lib/docker/volumes/data/_data", "Destination": "/data"}
    assert wire.mount_point(volume) == MountPoint(type="volume", source="data", target="/data")
    bind = {"Type": "bind", "Source": "/srv", "Destination": "/data"}
    assert wire.mount_point(bind) == MountPoint(type="bind", source="/srv", target="/data")


def test_what_the_engine_says_of_itself():
    assert wire.engine_info(INFO, VERSION) == EngineInfo(
        version="26.1.5",
        api_version="1.45",
        os="Debian GNU/Linux 13 (trixie)",
        cpus=2,
        memory=25276502016,
        storage_driver="overlay2",
        has_init=True,
        cgroup_driver="systemd",
        runtimes=("io.containerd.runc.v2", "runc"),
        warnings=(),
    )
    assert not wire.engine_info(INFO | {"InitCommit": {"ID": "N/A", "Expected": ""}}, VERSION).has_init


@pytest.mark.parametrize("version", ["1.45", "1.51", "2.0"])
def test_an_engine_with_our_api_or_a_newer_one_will_do(version):
    wire.check_api({"Version": "28.0.0", "ApiVersion": version})


@pytest.mark.parametrize("version", ["1.44", "1.9", "0.99"])
def test_an_older_engine_is_refused_with_the_cure(version):
    with pytest.raises(EngineError, match=r"Docker 25.0.0 with API .* update it to Docker Engine 26"):
        wire.check_api({"Version": "25.0.0", "ApiVersion": version})


@pytest.mark.parametrize(
    ("memory", "expected", "peak"),
    [
        ({"usage": 1000, "max_usage": 5000, "stats": {"total_inactive_file": 300, "inactive_file": 1}}, 700, 5000),
        ({"usage": 1000, "stats": {"inactive_file": 300}}, 700, None),
        ({}, 0, None),
    ],
    ids=["cgroup v1", "cgroup v2", "not running"],
)
def test_usage_leaves_out_cache_that_can_go(memory, expected, peak):
    stats = {
        "memory_stats": memory,
        "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}},
        "pids_stats": {"current": 4} if memory else {},
    }
    assert wire.usage(stats) == Usage(memory=expected, memory_peak=peak, cpu_seconds=1.5, pids=4 if memory else 0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"message":"No such container: x"}', "No such container: x"),
        (b"No such container: x\r\n", "No such container: x"),
        (b'{"error":"odd"}', '{"error":"odd"}'),
        (b'"odd"', '"odd"'),
        (b"\xff", "\ufffd"),
        (b"", "the engine answered 500 without a word"),
    ],
)
def test_a_refusal_keeps_the_engines_words(body, words):
    refused = wire.refusal("start it", 500, body)
    assert (str(refused), refused.status, refused.words) == (f"could not start it: {words}", 500, words)


@given(st.binary(max_size=2000))
def test_a_file_comes_out_of_its_archive_as_it_went_in(content):
    assert wire.archived_file("read it", wire.file_archive("/etc/passwd", content, 0o640)) == content


def test_a_file_goes_in_as_roots_with_its_mode():
    with tarfile.open(fileobj=io.BytesIO(wire.file_archive("/etc/passwd", b"x", 0o640))) as tar:
        (member,) = tar.getmembers()
    assert (member.name, member.uid, member.gid, member.mode) == ("etc/passwd", 0, 0, 0o640)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_regular_file_is_no_file(kind):
    member = tarfile.TarInfo("passwd")
    member.type, member.linkname = kind, "/proc/1/environ"
    assert wire.archived_file("read it", member.tobuf() + bytes(1024)) is None


def test_a_file_over_the_limit_is_refused_whatever_came_of_it():
    archive = wire.file_archive("/big", bytes(MIB + 1), 0o644)
    with pytest.raises(EngineError, match="could not read it: it has 1048577 bytes, and 1048576 is the most"):
        wire.archived_file("read it", archive[: wire.MAX_ARCHIVE])
    assert wire.archived_file("read it", wire.file_archive("/big", bytes(MIB), 0o644)[: wire.MAX_ARCHIVE]) == bytes(MIB)


def test_progress_adds_up_the_layers():
    progress = wire.PullProgress("python:3.12")
    lines = """
        {"status":"Pulling from library/python","id":"3.12"}
        {"status":"Already exists","progressDetail":{},"id":"aaa"}
        {"status":"Pulling fs layer","progressDetail":{},"id":"bbb"}
        {"status":"Pulling fs layer","progressDetail":{},"id":"ccc"}
        {"status":"Downloading","progressDetail":{"current":500000,"total":2000000},"progress":"[=> ]","id":"bbb"}
        {"status":"Downloading","progressDetail":{"current":1000000,"total":4000000},"progress":"[=> ]","id":"ccc"}
        {"status":"Download complete","progressDetail":{},"id":"bbb"}
        {"status":"Pull complete","progressDetail":{},"id":"bbb"}
        {"status":"Digest: sha256:00"}
    """
    for line in lines.strip().splitlines():
        progress.take(json.loads(line))
    assert str(progress) == "pulling python:3.12: 2 of 3 layers, 3.0 of 6.0 MB"


def test_progress_ends_with_the_registrys_words():
    with pytest.raises(ImageUnavailable, match="could not pull image x:1: toomanyrequests: slow down"):
        wire.PullProgress("x:1").take(
            {"errorDetail": {"message": "toomanyrequests: slow down"}, "error": "toomanyrequests: slow down"}
        )
