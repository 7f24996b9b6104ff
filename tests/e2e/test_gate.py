"""The gate on a real engine: what people do works, what attacks do not, and nothing is left."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import docker
import pytest

from tests.e2e.gate_process import POLICY, GateProcess
from tests.e2e.harness import BUSYBOX, until

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def shared(docker_host):
    gate = GateProcess(docker_host, "t1").start()
    yield gate
    gate.destroy()


@pytest.fixture
def gate(shared):
    yield shared
    shared.assert_promises_kept()
    for container in shared.client.containers.list(all=True):
        container.remove(force=True, v=True)


@pytest.fixture
def gate_of(docker_host):
    """Makes gates of the test's own, by the build."""
    made = []

    def make(build, policy=POLICY):
        made.append(GateProcess(docker_host, build, policy))
        return made[-1]

    yield make
    for each in made:
        each.destroy()


@pytest.fixture(scope="module")
def foreign(docker_host):
    """Things of others on the same engine."""
    engine = docker.DockerClient(base_url=docker_host, version="1.45")
    things = {
        "container": engine.containers.run(BUSYBOX, ["sleep", "900"], name="gate-foreign", detach=True),
        "network": engine.networks.create("gate-foreign-net"),
        "volume": engine.volumes.create("gate-foreign-volume", labels={"sibling.gate": "other"}),
    }
    yield things
    things["container"].remove(force=True)
    things["network"].remove()
    things["volume"].remove()
    engine.close()


def cli(gate, *words, stdin=None, check=True):
    """Docker's own command line, by the gate."""
    environment = {**os.environ, "DOCKER_HOST": f"unix://{gate.socket}"}
    ended = subprocess.run(
        ["docker", *words], env=environment, input=stdin, capture_output=True, check=False, cwd=gate.files
    )
    assert not check or ended.returncode == 0, ended.stderr.decode()
    return ended


# --------------------------------------------------------------------------------------- what people do


def test_containers_that_are_the_first_at_the_same_time_share_one_network(gate_of):
    gate = gate_of("first").start()
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: gate.create(), range(4)))
    assert [status for status, _ in made] == [201] * 4, made


def test_a_container_runs_and_its_output_and_exit_code_come_back(gate):
    ran = cli(gate, "run", "--rm", BUSYBOX, "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == (b"out\n", b"err\n", 7)
    assert gate.own() == []


def test_standard_input_and_its_end_go_in(gate):
    data = os.urandom(3_000_000)
    assert cli(gate, "run", "--rm", "-i", BUSYBOX, "cat", stdin=data).stdout == data
    cli(gate, "run", "-d", "--name", "box", BUSYBOX, "sleep", "600")
    assert cli(gate, "exec", "-i", "box", "sha256sum", stdin=data).stdout.split()[1] == b"-"
    assert cli(gate, "exec", "-i", "box", "cat", stdin=data).stdout == data
    assert cli(gate, "exec", "box", "sh", "-c", "exit 9", check=False).returncode == 9


def test_files_go_in_and_out(gate):
    (gate.files / "file").write_bytes(b"x" * 500_000)
    cli(gate, "run", "-d", "--name", "box", BUSYBOX, "sleep", "600")
    cli(gate, "cp", "file", "box:/tmp/file")
    cli(gate, "cp", "box:/tmp/file", "back")
    assert (gate.files / "back").read_bytes() == b"x" * 500_000
    assert cli(gate, "cp", "box:/none", "back", check=False).returncode == 1


def test_logs_follow_wait_top_stats_diff_and_rename(gate):
    cli(
        gate,
        "run",
        "-d",
        "--name",
        "box",
        BUSYBOX,
        "sh",
        "-c",
        "for i in 1 2 3; do echo $i; sleep 0.2; done; touch /new",
    )
    assert cli(gate, "logs", "-f", "box").stdout == b"1\n2\n3\n"
    assert cli(gate, "wait", "box").stdout == b"0\n"
    assert b"A /new" in cli(gate, "diff", "box").stdout
    cli(gate, "rename", "box", "other")
    cli(gate, "start", "other")
    assert b"other" in cli(gate, "ps").stdout
    assert b"sleep" in cli(gate, "top", "other").stdout
    assert b"other" in cli(gate, "stats", "--no-stream", "other").stdout
    cli(gate, "restart", "-t", "0", "other")
    cli(gate, "stop", "-t", "0", "other")
    assert b"Exited" in cli(gate, "ps", "-a").stdout


def test_the_workspace_is_mounted_by_its_path_in_the_build(gate):
    (gate.files / "src").mkdir(exist_ok=True)
    (gate.files / "src/a").write_text("hello\n")
    mount = ["-v", "/workspace/src:/src"]
    assert cli(gate, "run", "--rm", *mount, BUSYBOX, "sh", "-c", "cat /src/a; touch /src/made").stdout == b"hello\n"
    assert (gate.files / "src/made").exists()
    cli(
        gate,
        "run",
        "--rm",
        "-v",
        "/workspace:/w:ro",
        "-v",
        "/workspace/new/deep:/d",
        BUSYBOX,
        "sh",
        "-c",
        "ls /w/src; touch /d/x",
    )
    assert (gate.files / "new/deep/x").exists()
    assert cli(gate, "run", "--rm", "-v", "/workspace/src/a:/a:ro", BUSYBOX, "cat", "/a").stdout == b"hello\n"
    words = ["--mount", "type=bind,source=/workspace/src,target=/src,readonly", BUSYBOX, "touch", "/src/b"]
    assert cli(gate, "run", "--rm", *words, check=False).returncode == 1
    cli(gate, "create", "--name", "box", *mount, BUSYBOX)
    (shown,) = json.loads(cli(gate, "inspect", "box").stdout)
    assert [(each["Type"], each["Source"], each["Destination"]) for each in shown["Mounts"]] == [
        ("bind", "/workspace/src", "/src")
    ]
    assert shown["Config"]["Image"] == BUSYBOX
    assert shown["Config"]["Labels"] == gate.engine.images.get(BUSYBOX).labels


def test_networks_join_containers_by_name_and_volumes_keep_files(gate):
    cli(gate, "network", "create", "net")
    cli(gate, "volume", "create", "data")
    cli(gate, "run", "-d", "--name", "web", "--network", "net", "-v", "data:/www", BUSYBOX, "httpd", "-f", "-h", "/www")
    cli(gate, "run", "--rm", "-v", "data:/d", BUSYBOX, "sh", "-c", "echo page >/d/index.html")
    fetched = cli(gate, "run", "--rm", "--network", "net", BUSYBOX, "wget", "-qO-", "http://web/")
    assert fetched.stdout == b"page\n"
    assert cli(gate, "network", "ls", "-q", "--filter", "name=net").stdout
    assert cli(gate, "volume", "ls", "-q").stdout == b"data\n"
    cli(gate, "network", "disconnect", "-f", "net", "web")
    cli(gate, "network", "connect", "--alias", "w2", "net", "web")
    cli(gate, "rm", "-f", "web")
    cli(gate, "network", "rm", "net")
    cli(gate, "volume", "rm", "data")


def test_a_published_port_is_reached_at_the_networks_gateway_alone(gate):
    page = ["sh", "-c", "echo page >/index.html; httpd -f -h /"]
    cli(gate, "run", "-d", "--name", "web", "-p", "8080:80", BUSYBOX, *page)
    address = cli(gate, "port", "web", "80/tcp").stdout.decode().split()[0]
    host, _, port = address.rpartition(":")
    assert port == "8080"
    (shown,) = json.loads(cli(gate, "inspect", "web").stdout)
    assert host == shown["NetworkSettings"]["Gateway"] == shown["NetworkSettings"]["Networks"]["bridge"]["Gateway"]

    def fetched():
        try:
            return urllib.request.urlopen(f"http://{address}/", timeout=5).read()
        except OSError:
            return None

    assert until(fetched, 20, "the page") == b"page\n"


def test_no_image_makes_a_container_look_like_one_of_the_services_own(gate):
    gate.create("box")
    changes = quote("LABEL sibling.service=s Sibling.role=r mine=m")
    assert gate.ask("POST", f"/commit?container=box&repo=dressed&changes={changes}")[0] == 201
    gate.create("dressed", Image="dressed")
    (labels,) = (each["Config"]["Labels"] for each in gate.own() if each["Name"].endswith(".dressed"))
    assert {labels["sibling.service"], labels["Sibling.role"]} == {""}
    assert (labels["mine"], labels["sibling.gate"]) == ("m", gate.build)
    cli(gate, "rm", "dressed")
    cli(gate, "rmi", "dressed")


def test_images_are_committed_tagged_listed_and_removed_under_names_of_the_build_alone(gate):
    cli(gate, "run", "--name", "box", BUSYBOX, "touch", "/made")
    cli(gate, "commit", "box", "app:1")
    cli(gate, "tag", "app:1", "registry.example/team/app:2")
    assert cli(gate, "run", "--rm", "app:1", "ls", "/made").stdout == b"/made\n"
    names = cli(gate, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.decode().split()
    assert {"app:1", "registry.example/team/app:2", BUSYBOX} <= set(names)
    assert not [name for name in names if not name.startswith(("app:", "registry.example/", "sibling-test/"))]
    with pytest.raises(docker.errors.ImageNotFound):
        gate.engine.images.get("app:1")
    cli(gate, "rmi", "registry.example/team/app:2")
    cli(gate, "rmi", "app:1")
    assert cli(gate, "run", "--rm", "app:1", "true", check=False).returncode == 125


def test_an_image_is_imported_and_an_own_name_goes_before_a_shared_one(gate):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("own")
        tar.addfile(member, io.BytesIO())
    before = gate.engine.images.get(BUSYBOX).id
    cli(gate, "import", "-", BUSYBOX, stdin=data.getvalue())
    assert gate.client.images.get(BUSYBOX).id != before
    assert gate.engine.images.get(BUSYBOX).id == before
    cli(gate, "rmi", BUSYBOX)
    assert gate.client.images.get(BUSYBOX).id == before


def test_events_are_the_builds_own(gate, foreign):
    events = gate.client.events(decode=True, filters={"type": "container", "event": "start"})
    foreign["container"].restart(timeout=0)
    cli(gate, "run", "--name", "box", BUSYBOX, "true")
    assert next(events)["Actor"]["Attributes"]["name"] == "box"
    events.close()


def test_the_gates_own_socket_can_be_given_on(gate):
    words = ["-v", "/var/run/docker.sock:/var/run/docker.sock", BUSYBOX, "sleep", "600"]
    cli(gate, "run", "-d", "--name", "ryuk", *words)
    mount = gate.own()[0]["HostConfig"]["Mounts"][0]
    assert mount["Source"] == str(gate.socket.resolve())


def test_version_and_info_tell_nothing_of_others(gate, foreign):
    assert gate.client.version()["ApiVersion"] == "1.45"
    info = gate.client.info()
    assert info["Name"] == "sibling-gate"
    assert info["Containers"] == 0
    assert "gate-foreign" not in json.dumps(info)


# ------------------------------------------------------------------------------------------ what attacks do

HOST = {
    "Privileged": True,
    "PidMode": "host",
    "IpcMode": "host",
    "UTSMode": "host",
    "UsernsMode": "host",
    "NetworkMode": "host",
    "CgroupnsMode": "host",
    "CapAdd": ["SYS_ADMIN"],
    "SecurityOpt": ["seccomp=unconfined"],
    "Devices": [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda", "CgroupPermissions": "rwm"}],
    "DeviceCgroupRules": ["b 8:* rwm"],
    "CgroupParent": "/",
    "Runtime": "crun",
    "Binds": ["/:/host"],
    "Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/e"}],
    "VolumesFrom": ["gate-foreign"],
    "OomScoreAdj": -1000,
    "MaskedPaths": [],
    "ReadonlyPaths": [],
    "Memory": 2**40,
    "NanoCpus": 10**12,
    "PidsLimit": 10**6,
    "Sysctls": {"kernel.core_pattern": "|/x"},
    "Ulimits": [{"Name": "rtprio", "Soft": 99, "Hard": 99}],
    "StorageOpt": {"size": "1t"},
    "VolumeDriver": "nfs",
    "Annotations": {"run.oci.handler": "x"},
    "Links": ["gate-foreign:x"],
    "LogConfig": {"Type": "syslog", "Config": {"syslog-address": "tcp://10.0.0.1:1"}},
    "DeviceRequests": [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}],
    "CpuRealtimePeriod": 1000,
    "BlkioDeviceWriteBps": [{"Path": "/dev/sda", "Rate": 1}],
    "PortBindings": {"80/tcp": [{"HostIp": "192.0.2.1", "HostPort": "80"}]},
}


@pytest.mark.parametrize("name", HOST)
@pytest.mark.parametrize("how", ["HostConfig", "top", "case", "fold"])
def test_nothing_of_the_host_is_given(gate, foreign, name, how):
    value = HOST[name]
    folded = name.replace("s", "\u017f", 1).replace("k", "\u212a", 1)
    body = {
        "HostConfig": {"HostConfig": {name: value}},
        "top": {name: value},
        "case": {"hostconfig": {name.lower(): value}},
        "fold": {"Ho\u017ftConfig": {folded: value}},
    }[how]
    status, answer = gate.create(**body)
    assert status in (400, 403, 404), answer
    assert gate.own() == []


@pytest.mark.parametrize(
    "text",
    [
        '{"Image":"IMG","HostConfig":{},"HostConfig":{"Privileged":true}}',
        '{"Image":"IMG","HostConfig":{"Privileged":false,"privileged":true}}',
        '{"Image":"IMG"}{"HostConfig":{"Privileged":true}}',
        '{"Image":"IMG","HostConfig":{"Memory":1e30}}',
        '{"Image":"IMG","HostConfig":{"Memory":-1}}',
        '{"Image":"IMG","Cmd":' + "[" * 70 + "]" * 70 + "}",
        "[]",
        "",
        "{",
    ],
)
def test_json_that_could_be_read_in_two_ways_is_refused(gate, text):
    status, _ = gate.ask("POST", "/containers/create", text.replace("IMG", BUSYBOX).encode())
    assert status in (400, 403)
    assert gate.own() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/containers/NAME/json"),
        ("GET", "/containers/NAME/logs?stdout=1"),
        ("POST", "/containers/NAME/stop"),
        ("POST", "/containers/NAME/kill"),
        ("DELETE", "/containers/NAME?force=1"),
        ("POST", "/containers/NAME/attach?stream=1&stdout=1"),
        ("GET", "/containers/NAME/archive?path=/etc/passwd"),
        ("GET", "/containers/NAME/export"),
        ("POST", "/containers/NAME/exec"),
        ("POST", "/containers/NAME/update"),
        ("POST", "/containers/NAME/rename?name=x1"),
        ("POST", "/commit?container=NAME"),
    ],
)
def test_others_containers_are_not_there(gate, foreign, method, path):
    container = foreign["container"]
    body = {"Cmd": ["id"], "Memory": 0} if "exec" in path else {} if "update" in path else None
    body = {"Cmd": ["id"]} if "exec" in path else body
    answers = [
        gate.ask(method, path.replace("NAME", name), body)
        for name in ("gate-foreign", container.id, container.short_id, "no-such-container")
    ]
    assert {status for status, _ in answers} == {404}, answers
    assert {answer["message"].rpartition(" ")[0] for _, answer in answers} == {"No such container:"}
    container.reload()
    assert (container.status, container.name) == ("running", "gate-foreign")


def test_others_networks_and_volumes_are_not_there(gate, foreign):
    for path in ("/networks/gate-foreign-net", "/volumes/gate-foreign-volume", f"/networks/{foreign['network'].id}"):
        for method in ("GET", "DELETE"):
            assert gate.ask(method, path)[0] == 404
    assert gate.create(HostConfig={"NetworkMode": "gate-foreign-net"})[0] == 404
    assert gate.create(HostConfig={"NetworkMode": f"container:{foreign['container'].id}"})[0] == 404
    assert gate.create(HostConfig={"PidMode": "container:gate-foreign"})[0] == 404
    assert gate.create(NetworkingConfig={"EndpointsConfig": {"gate-foreign-net": {}}})[0] == 404
    assert gate.ask("GET", "/networks")[1] == [
        each for each in gate.ask("GET", "/networks")[1] if each["Name"] == "bridge"
    ]
    for prune in ("containers", "networks", "volumes", "images"):
        assert gate.ask("POST", f"/{prune}/prune")[0] == 200
    foreign["network"].reload()
    foreign["volume"].reload()


@pytest.mark.parametrize(
    "image", ["alpine:3", "docker.io/library/python", "sha256:" + "0" * 64, "sibling.local/x/y:latest", "../x"]
)
def test_images_that_policy_does_not_name_are_not_there(gate, image):
    assert gate.create(Image=image)[0] in (400, 404)
    assert gate.ask("POST", f"/images/create?fromImage={image}&tag=1")[0] in (400, 403)
    assert gate.ask("POST", f"/images/{image}/push?tag=1")[0] in (400, 403, 404)


def test_a_shared_image_is_neither_removed_nor_moved(gate):
    before = gate.engine.images.get(BUSYBOX).id
    assert gate.ask("DELETE", f"/images/{BUSYBOX}?force=1")[0] == 403
    assert gate.ask("DELETE", f"/images/{before}?force=1")[0] == 403
    assert gate.ask("POST", "/images/sibling-test/debian:1/tag?repo=sibling-test/busybox&tag=1")[0] == 201
    assert gate.engine.images.get(BUSYBOX).id == before
    assert gate.ask("DELETE", f"/images/{BUSYBOX}")[0] == 200
    assert gate.engine.images.get(BUSYBOX).id == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/build/prune"),
        ("GET", "/swarm"),
        ("POST", "/swarm/init"),
        ("GET", "/plugins"),
        ("POST", "/plugins/pull?remote=x"),
        ("GET", "/secrets"),
        ("GET", "/nodes"),
        ("GET", "/services"),
        ("GET", "/configs"),
        ("POST", "/auth"),
        ("GET", "/images/search?term=x"),
        ("POST", "/containers/x/checkpoints"),
        ("GET", "/containers/x/attach/ws"),
    ],
)
def test_what_is_not_in_the_table_is_refused_by_name(gate, method, path):
    status, answer = gate.ask(method, path)
    assert status == 403
    assert "(route)" in answer["message"]


@pytest.mark.parametrize("path", ["/build", "/build/cancel", "/session", "/grpc"])
def test_nothing_is_built_without_a_builder(gate, path):
    status, answer = gate.ask("POST", path, headers={"Connection": "Upgrade", "Upgrade": "h2c"})
    assert (status, "(build)" in answer["message"]) == (403, True)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /v1.45/containers/json HTTP/1.1\nHost: x\n\n",
        b"GET /v1.45/_ping HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
        b"GET http://x/v1.45/info HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1.45/containers/../info HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1.45//info HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1.45/containers%2fjson HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1.45/in%66o%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1.45/info?a=1&a=2 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1.99/info HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1.12/info HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1.45/volumes/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"POST /v1.45/volumes/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /v1.45/volumes/create HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}",
        b"GET /v1.45/info HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
        b"GET /v1.45/info HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_http_that_could_be_read_in_two_ways_is_refused(gate, raw):
    answer = gate.send(raw)
    assert not answer or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 404")), answer[:200]
    assert b"200 OK" not in answer


def test_a_second_request_in_the_body_of_the_first_is_no_request(gate):
    inner = b'POST /v1.45/volumes/create HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\n{"Name":"inner"}'
    outer = b"POST /v1.45/containers/none/start HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(inner)
    gate.send(outer + inner)
    assert gate.client.volumes.list() == []


@pytest.mark.parametrize(
    "bind", ["/workspace/../etc:/e", "/workspace/link:/e", "/workspace-other:/e", "/:/e", "/workspace/../../:/e"]
)
def test_no_path_leads_out_of_the_workspace(gate, bind):
    link = gate.files / "link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    status, answer = gate.create(HostConfig={"Binds": [bind]}, Cmd=["cat", "/e/hostname", "/e/passwd"])
    if status == 201:
        started, answer = gate.ask("POST", f"/containers/{answer['Id']}/start")
        assert started >= 400, answer
    else:
        assert status in (400, 403), answer


def test_a_folder_that_becomes_a_link_before_a_start_leads_nowhere(gate):
    swapped = gate.files / "swapped"
    swapped.mkdir()
    _, made = gate.create(HostConfig={"Binds": ["/workspace/swapped:/e"]}, Cmd=["ls", "/e"])
    swapped.rmdir()
    swapped.symlink_to("/")
    assert gate.ask("POST", f"/containers/{made['Id']}/start")[0] >= 400
    swapped.unlink()


def test_limits_hold_for_what_asks_for_none_and_for_how_many_there_are(gate):
    made = [gate.create(f"box{number}")[0] for number in range(7)]
    assert made == [201] * 6 + [403]
    (first, *_) = gate.own()
    assert (first["HostConfig"]["Memory"], first["HostConfig"]["PidsLimit"]) == (256 * 1024**2, 256)
    assert first["HostConfig"]["LogConfig"]["Type"] == "json-file"
    assert gate.ask("POST", f"/containers/{first['Id']}/update", {"Memory": 2**35})[0] == 403
    assert gate.ask("POST", f"/containers/{first['Id']}/update", {"Memory": 2**27, "MemorySwap": -1})[0] in (200, 403)


def test_an_image_asks_for_no_more_volumes_than_there_may_be(gate_of):
    gate = gate_of("t-volumes", POLICY + "volumes = 3\n").start()
    gate.create("box")
    changes = quote("VOLUME /a /b /c /d")
    assert gate.ask("POST", f"/commit?container=box&repo=many&changes={changes}")[0] == 201
    status, answer = gate.create(Image="many")
    assert (status, "limits.volumes" in answer["message"]) == (403, True)
    assert gate.create(Image="many", HostConfig={"Tmpfs": {"/a": ""}})[0] == 201


@pytest.mark.parametrize("options", ["-eo pid=PID", "auxe;", "-p $(id)"])
def test_the_hosts_ps_takes_plain_options_alone(gate, options):
    gate.create("box")
    gate.ask("POST", "/containers/box/start")
    assert gate.ask("GET", f"/containers/box/top?ps_args={quote(options)}")[0] == 403
    assert gate.ask("GET", "/containers/box/top?ps_args=aux")[0] == 200


def test_an_exec_has_no_privileges_and_another_builds_exec_is_not_there(gate, foreign):
    _, made = gate.create("box")
    gate.ask("POST", "/containers/box/start")
    assert gate.ask("POST", f"/containers/{made['Id']}/exec", {"Cmd": ["id"], "Privileged": True})[0] == 403
    other = foreign["container"].client.api.exec_create(foreign["container"].id, ["id"])["Id"]
    for method, path in (
        ("POST", f"/exec/{other}/start"),
        ("GET", f"/exec/{other}/json"),
        ("POST", f"/exec/{other}/resize?h=1&w=1"),
    ):
        assert gate.ask(method, path, {} if "start" in path else None)[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        {"DriverOpts": {"type": "none", "o": "bind", "device": "/"}},
        {"DriverOpts": {"type": "overlay", "device": "overlay"}},
        {"Driver": "nfs"},
        {"Name": "../x"},
        {"Labels": {"sibling.gate": "other"}},
    ],
)
def test_a_volume_has_no_files_of_the_host(gate, body):
    assert gate.ask("POST", "/volumes/create", {"Name": "vol", **body})[0] in (400, 403)
    assert gate.client.volumes.list() == []


@pytest.mark.parametrize(
    "body",
    [
        {"Driver": "host"},
        {"Driver": "macvlan", "Options": {"parent": "eth0"}},
        {"Options": {"com.docker.network.bridge.name": "docker0"}},
        {"IPAM": {"Config": [{"Subnet": "8.8.8.0/24"}]}},
        {"Ingress": True},
        {"ConfigFrom": {"Network": "x"}, "ConfigOnly": True},
        {"Name": "host"},
        {"Scope": "swarm"},
        {"Options": {"com.docker.network.bridge.host_binding_ipv4": "0.0.0.0"}},
    ],
)
def test_a_network_is_a_plain_bridge(gate, body):
    assert gate.ask("POST", "/networks/create", {"Name": "net", **body})[0] in (400, 403)


def test_a_network_stays_while_a_stopped_container_has_its_name(gate):
    """Else the container would start on whatever network has that name by then, and be another build's neighbour."""
    for name in ("net-a", "net-b"):
        gate.ask("POST", "/networks/create", {"Name": name})
    _, made = gate.create("box", HostConfig={"NetworkMode": "net-a"})
    assert gate.ask("POST", "/networks/net-b/connect", {"Container": "box"})[0] == 200
    for name in ("net-a", "net-b"):
        assert gate.ask("DELETE", f"/networks/{name}")[0] == 409
    assert gate.ask("POST", "/networks/prune")[1] == {"NetworksDeleted": []}
    own = gate.ask("GET", "/networks/bridge")[1]["Id"]
    gate.create("other")
    assert gate.ask("DELETE", f"/networks/{own}")[0] == 409
    assert gate.ask("DELETE", f"/containers/{made['Id']}?force=1")[0] == 204
    assert sorted(gate.ask("POST", "/networks/prune")[1]["NetworksDeleted"]) == ["net-a", "net-b"]


# --------------------------------------------------------------------------------------------- names


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
            "db",
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
            ["inspect", "db"],
            ["ps", "--no-trunc", "--format", "json"],
            ["network", "inspect", "net"],
            ["network", "ls", "--format", "json"],
            ["volume", "inspect", "data"],
            ["volume", "ls", "--format", "json"],
            ["stats", "--no-stream", "--format", "{{.Name}} {{.Container}}"],
            ["events", "--since", "1h", "--until", "0s", "--format", "json"],
            ["start", "none"],
            ["rename", "db", "db"],
        ):
            ran = cli(gate, *words, check=False)
            assert b"sibling-gate-" not in (ran.stdout + ran.stderr).replace(
                f'sibling-gate-{gate.build}"'.encode(), b""
            ), words
        assert cli(gate, "ps", "-q", "--no-trunc", "--filter", "name=^/db$").stdout.decode().split() == [own]
        assert cli(gate, "ps", "-q", "--no-trunc", "--filter", "volume=data").stdout.decode().split() == [own]
        assert cli(gate, "ps", "-q", "--no-trunc", "--filter", "network=net").stdout.decode().split() == [own]
        assert cli(gate, "network", "ls", "-q", "--filter", "name=bridge").stdout
        assert cli(gate, "run", "--rm", "--network", "net", BUSYBOX, "ping", "-c", "1", "-w", "2", "db").returncode == 0
        assert cli(gate, "run", "--rm", "--volumes-from", "db", BUSYBOX, "cat", "/d/x").stdout == b"1\n"
        assert b"in use" in cli(gate, "create", "--name", "db", BUSYBOX, check=False).stderr
        cli(gate, "rename", "db", "store")
        assert cli(gate, "exec", "store", "hostname").returncode == 0
        assert b"No such container: db" in cli(gate, "exec", "db", "true", check=False).stderr


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
    gate.ask("POST", "/volumes/create", {"Name": "gate-foreign-volume"})
    assert gate.create(HostConfig={"Binds": ["gate-foreign-volume:/v"]})[0] == 201
    assert foreign["volume"].id not in {
        mount.get("Name")
        for each in gate.engine.containers.list(all=True, filters={"label": "sibling.gate=t1"})
        for mount in each.attrs["Mounts"]
    }
    cli(gate, "rm", "-f", *cli(gate, "ps", "-aq").stdout.decode().split())
    cli(gate, "volume", "rm", "gate-foreign-volume")
    foreign["volume"].reload()


def test_the_newest_of_a_name_is_meant_where_the_engine_removed_the_others(gate):
    for _ in range(2):
        cli(gate, "run", "--rm", "--name", "again", BUSYBOX, "true")
    cli(gate, "run", "-d", "--name", "again", BUSYBOX, "sleep", "60")
    assert cli(gate, "inspect", "-f", "{{.State.Status}}", "again").stdout == b"running\n"


# --------------------------------------------------------------------------------------------- facts


def test_disk_usage_is_of_the_builds_own(gate, foreign):
    cli(gate, "run", "--name", "used", "-v", "filled:/d", BUSYBOX, "sh", "-c", "head -c 5000000 /dev/zero >/d/x")
    cli(gate, "commit", "used", "used:1")
    usage = gate.ask("GET", "/system/df")[1]
    assert [each["Names"] for each in usage["Containers"]] == [["/used"]]
    assert [(each["Name"], each["UsageData"]["Size"] >= 5_000_000) for each in usage["Volumes"]] == [("filled", True)]
    assert [each["RepoTags"] for each in usage["Images"]] == [["used:1"]]
    assert b"Local Volumes" in cli(gate, "system", "df").stdout
    cli(gate, "rm", "used")
    cli(gate, "volume", "rm", "filled")
    cli(gate, "rmi", "used:1")


def test_a_registry_is_asked_for_what_may_be_pulled_alone(gate):
    assert gate.ask("GET", "/distribution/127.0.0.1:1/x/json")[0] == 403
    assert gate.ask("GET", "/distribution/sibling.local/x/json")[0] == 403


def test_events_are_shown_without_what_is_the_gates(gate):
    cli(gate, "run", "--name", "told", "--label", "own=1", BUSYBOX, "true")
    cli(gate, "commit", "told", "told:1")
    cli(gate, "rm", "told")
    cli(gate, "run", "--name", "told", "--label", "own=1", "told:1", "true")
    soon = str(int(time.time()) + 2)
    words = ["events", "--since", "1h", "--until", soon, "--filter", "container=told", "--format", "json"]
    shown = [json.loads(line) for line in cli(gate, *words).stdout.splitlines()]
    assert {each["Actor"]["Attributes"]["name"] for each in shown} == {"told"}
    assert {(each["Actor"]["Attributes"]["image"], each["from"]) for each in shown} == {("told:1", "told:1")}
    assert all(each["Actor"]["Attributes"]["own"] == "1" for each in shown)
    assert not [name for each in shown for name in each["Actor"]["Attributes"] if name.startswith("sibling.")]
    cli(gate, "rm", "told")
    cli(gate, "rmi", "told:1")


def test_containers_are_found_by_an_own_image_and_by_those_before_and_after(gate):
    for name in ("one", "two", "three"):
        cli(gate, "create", "--name", name, BUSYBOX)
    cli(gate, "commit", "one", "own:1")
    cli(gate, "create", "--name", "four", "own:1")

    def found(*filters):
        words = [word for each in filters for word in ("--filter", each)]
        return cli(gate, "ps", "-a", "--format", "{{.Names}}", *words).stdout.decode().split()

    assert found("ancestor=own:1") == ["four"]
    assert found("before=two") == ["one"]
    assert found("since=two") == ["four", "three"]
    assert cli(gate, "ps", "-a", "--filter", "before=none", check=False).returncode == 1
    cli(gate, "rm", "one", "two", "three", "four")
    cli(gate, "rmi", "own:1")


# --------------------------------------------------------------------------------------------- save and load


def test_what_was_saved_is_loaded_by_another_build_and_by_an_engine(gate, gate_of):
    cli(gate, "run", "--name", "made", BUSYBOX, "sh", "-c", "echo mine >/file")
    cli(gate, "commit", "made", "mine:1")
    cli(gate, "tag", "mine:1", "registry.example/team/mine:2")
    cli(gate, "save", "-o", gate.files / "two.tar", "mine:1", BUSYBOX, "registry.example/team/mine:2")
    with tarfile.open(gate.files / "two.tar") as tar:
        assert b"sibling.local" not in b"".join(
            tar.extractfile(each).read() for each in tar if each.name.endswith(".json")
        )
        told = {tuple(each["RepoTags"]) for each in json.load(tar.extractfile("manifest.json"))}
    assert told == {("mine:1", "registry.example/team/mine:2"), (BUSYBOX,)}
    other = gate_of("t-load").start()
    loaded = cli(other, "load", "-i", gate.files / "two.tar").stdout.decode()
    assert sorted(loaded.split()[2::3]) == sorted(["mine:1", "registry.example/team/mine:2", BUSYBOX])
    assert cli(other, "run", "--rm", "registry.example/team/mine:2", "cat", "/file").stdout == b"mine\n"
    assert not gate.engine.images.list("registry.example/team/mine")
    for packer in (["gzip"], ["xz", "-1"]):
        packed = subprocess.run([*packer, "-c", gate.files / "two.tar"], capture_output=True, check=True).stdout
        assert b"Loaded image: mine:1" in cli(other, "load", stdin=packed).stdout
    ids = cli(gate, "images", "-q", "--no-trunc", "mine").stdout.decode().split()
    saved = cli(gate, "save", ids[0]).stdout
    assert b"Loaded image ID" in cli(other, "load", stdin=saved).stdout
    cli(gate, "rm", "made")


def archive(manifest, *members):
    """A tar with that manifest, and members (name, content) or ready TarInfos."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for each in (*members, ("manifest.json", json.dumps(manifest).encode())):
            if isinstance(each, tarfile.TarInfo):
                tar.addfile(each)
                continue
            member = tarfile.TarInfo(each[0])
            member.size = len(each[1])
            tar.addfile(member, io.BytesIO(each[1]))
    return out.getvalue()


LAYER = archive({})
CONFIG = json.dumps(
    {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(LAYER).hexdigest()}"]},
    }
).encode()
WHOLE = {"Config": "c.json", "RepoTags": ["own:1"], "Layers": ["l.tar"]}


def load(gate, data):
    return gate.ask("POST", "/images/load?quiet=1", data, {"Content-Type": "application/x-tar"})


def test_a_loaded_archive_moves_no_shared_name(gate):
    shared = gate.engine.images.get(BUSYBOX).id
    data = archive([{**WHOLE, "RepoTags": [BUSYBOX, "own:1"]}], ("c.json", CONFIG), ("l.tar", LAYER))
    assert load(gate, data)[0] == 200
    assert gate.engine.images.get(BUSYBOX).id == shared
    assert gate.client.images.get(BUSYBOX).id == gate.client.images.get("own:1").id != shared
    repositories = json.dumps({"sibling-test/busybox": {"1": "x"}}).encode()
    assert load(gate, archive([WHOLE], ("c.json", CONFIG), ("l.tar", LAYER), ("repositories", repositories)))[0] == 200
    assert gate.engine.images.get(BUSYBOX).id == shared
    cli(gate, "rmi", BUSYBOX)


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def device(name):
    member = tarfile.TarInfo(name)
    member.type = tarfile.CHRTYPE
    return member


@pytest.mark.parametrize(
    ("manifest", "members"),
    [
        ([], []),
        ({}, []),
        ([WHOLE], []),
        ([{**WHOLE, "Config": "/etc/passwd"}], [("l.tar", LAYER)]),
        ([{**WHOLE, "Layers": ["../../l.tar"]}], [("c.json", CONFIG), ("l.tar", LAYER)]),
        ([{**WHOLE, "Layers": [7]}], [("c.json", CONFIG)]),
        ([{**WHOLE, "Layers": 7}], [("c.json", CONFIG)]),
        ([{**WHOLE, "Config": None}], []),
        ([7], []),
        ([{**WHOLE, "RepoTags": ["sibling.local/x:1"]}], [("c.json", CONFIG), ("l.tar", LAYER)]),
        ([{**WHOLE, "RepoTags": ["0123456789ab"]}], [("c.json", CONFIG), ("l.tar", LAYER)]),
        ([{**WHOLE, "RepoTags": ["../x"]}], [("c.json", CONFIG), ("l.tar", LAYER)]),
        ([WHOLE], [("c.json", CONFIG), link("l.tar", "/etc/passwd")]),
        ([WHOLE], [("c.json", CONFIG), link("l.tar", "l.tar")]),
        ([WHOLE], [("c.json", CONFIG), ("l.tar", LAYER), device("d")]),
        ([WHOLE], [("c.json", CONFIG), ("l.tar", LAYER), ("./l.tar", LAYER)]),
        ([WHOLE], [("c.json", CONFIG), ("l.tar", b"\x28\xb5\x2f\xfd" + LAYER)]),
        ([WHOLE], [("c.json", CONFIG), ("l.tar", b"\x5a\x2a\x4d\x18" + LAYER)]),
        ([WHOLE], [("c.json", CONFIG), ("l.tar", gzip.compress(LAYER) + b"more")]),
        ([WHOLE], [("c.json", CONFIG), ("l.tar", archive({}, ("x", b"other")))]),
        ([{**WHOLE, "Layers": []}], [("c.json", CONFIG)]),
        ([{**WHOLE, "Layers": ["l.tar"] * 2}], [("c.json", CONFIG), ("l.tar", LAYER)]),
        ([WHOLE], [("c.json", CONFIG.replace(b"{", b'{"RootFS": {}, ', 1)), ("l.tar", LAYER)]),
        ([WHOLE], [("c.json", CONFIG + b"{}"), ("l.tar", LAYER)]),
        ([WHOLE], [("c.json", b"[]"), ("l.tar", LAYER)]),
        ([WHOLE], [("c.json", b'{"rootfs": 1}'), ("l.tar", LAYER)]),
        ([WHOLE], [("c.json", b"{}"), ("l.tar", LAYER)]),
        ([WHOLE], [("manifest.json", b"[]"), ("c.json", CONFIG), ("l.tar", LAYER)]),
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(gate, manifest, members):
    contents = [each[1] for each in members if isinstance(each, tuple)]
    hostile = {f"sha256:{hashlib.sha256(content).hexdigest()}" for content in contents}

    def there():
        return gate.left(), hostile & {each.id for each in gate.engine.images.list(all=True)}

    before = there()
    status, answer = load(gate, archive(manifest, *members))
    assert status in (400, 403), answer
    assert there() == before


def test_layers_of_others_are_not_had_by_naming_their_digests(gate, gate_of):
    """The engine does not look at a layer that it has already, and takes the digest for it."""
    other = gate_of("t-victim").start()
    cli(other, "run", "--name", "made", BUSYBOX, "sh", "-c", "echo secret >/file")
    cli(other, "commit", "made", "secret:1")
    digests = other.client.images.get("secret:1").attrs["RootFS"]["Layers"]
    claimed = json.dumps({**json.loads(CONFIG), "rootfs": {"type": "layers", "diff_ids": digests}}).encode()
    whole = {**WHOLE, "RepoTags": ["stolen:1"], "Layers": ["l.tar"] * len(digests)}
    status, answer = load(gate, archive([whole], ("c.json", claimed), ("l.tar", LAYER)))
    assert (status, "digest" in answer["message"]) == (400, True), answer
    spelled = claimed.replace(b"diff_ids", b"Diff_IDs").replace(b"rootfs", b"RootF\xc5\xbf")
    assert load(gate, archive([whole], ("c.json", spelled), ("l.tar", LAYER)))[0] == 400
    assert gate.ask("GET", "/images/stolen:1/json")[0] == 404


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 5000, gzip.compress(b"x")[:-3], LAYER[:100], gzip.compress(LAYER)[:-9]],
    ids=["nothing", "text", "no gzip", "no tar", "no whole gzip"],  # what gzip makes has the time in it
)
def test_what_is_no_archive_is_told_so(gate, data):
    assert load(gate, data)[0] == 400


def test_a_bomb_is_not_unpacked(gate_of):
    gate = gate_of("t-bomb", POLICY + 'image_bytes = "8m"\n').start()
    bomb = gzip.compress(bytes(64 * 1024**2))
    for data in (gzip.compress(bytes(32 * 1024**2)), archive([WHOLE], ("c.json", CONFIG), ("l.tar", bomb))):
        status, answer = load(gate, data)
        assert (status, "8388608 bytes" in answer["message"]) == (400, True), answer


def test_only_what_a_build_may_use_is_saved(gate, foreign):
    engine = gate.engine
    engine.api.import_image_from_data(LAYER, repository="gate-secret", tag="1")
    try:
        for path in ("/images/gate-secret:1/get", f"/images/get?names={BUSYBOX}&names=gate-secret:1", "/images/get"):
            assert gate.ask("GET", path)[0] in (400, 404)
    finally:
        engine.images.remove("gate-secret:1")


# ------------------------------------------------------------------------------------------------- its end


def filled(gate):
    cli(gate, "network", "create", "net-end")
    cli(gate, "volume", "create", "data-end")
    cli(
        gate,
        "run",
        "-d",
        "--network",
        "net-end",
        "-v",
        "data-end:/d",
        "-v",
        "/anonymous",
        "--name",
        "end",
        BUSYBOX,
        "sleep",
        "600",
    )
    cli(gate, "commit", "end", "end:1")
    assert len(gate.left()) >= 4


@pytest.mark.parametrize("how", ["term", "kill"])
def test_nothing_is_left_after_its_end(gate_of, how):
    gate = gate_of(f"end-{how}").start()
    filled(gate)
    volumes = {each["Name"] for one in gate.own() for each in one["Mounts"] if each["Type"] == "volume"}
    assert volumes
    if how == "kill":
        gate.kill()
        assert gate.left()
        gate.start()
    assert gate.stop() == 0
    assert gate.left() == []
    assert not volumes & {each.name for each in gate.engine.volumes.list()}
    assert not gate.socket.exists()


def test_a_policy_of_all_images_does_not_mean_those_of_other_builds(gate_of):
    mine, theirs = gate_of("t3", POLICY.replace("sibling-test/*", "**")).start(), gate_of("t4").start()
    theirs.create("box")
    cli(theirs, "commit", "box", "secret:1")
    (anchor,) = [name for name in theirs.left() if name.startswith("sibling.local/")]
    (image,) = [each["Id"] for each in theirs.ask("GET", "/images/json")[1] if "secret:1" in each["RepoTags"]]
    for name in (anchor, image, image.removeprefix("sha256:")[:12], "secret:1"):
        assert mine.ask("GET", f"/images/{name}/json")[0] == 404
        assert mine.create(Image=name)[0] == 404
        assert mine.ask("POST", f"/images/{name}/tag?repo=mine")[0] == 404
    assert "sibling.local" not in json.dumps(mine.ask("GET", "/images/json?all=1")[1])
    assert mine.ask("POST", f"/images/{BUSYBOX}/tag?repo=sibling.local/x")[0] == 403


def test_two_builds_do_not_see_each_other(gate_of, shared):
    other = gate_of("t2").start()
    cli(other, "run", "-d", "--name", "theirs", BUSYBOX, "sleep", "600")
    (container,) = other.own()
    assert shared.ask("GET", f"/containers/{container['Id']}/json")[0] == 404
    assert shared.create(Image=container["Image"])[0] in (201, 404)
    assert "theirs" not in json.dumps(shared.ask("GET", "/containers/json?all=1")[1])


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("images = 5", "images"),
        ("nonsense = 1", "nonsense"),
        ("= broken", "TOML"),
        ('workspace = "/w:/no/such"', "is no folder"),
    ],
)
def test_a_policy_that_is_wrong_is_told(gate_of, policy, said):
    gate = gate_of("bad", policy)
    with pytest.raises(AssertionError, match=said):
        gate.start()
    assert gate.process.returncode == 2
