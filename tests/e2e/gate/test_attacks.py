"""What attacks do: nothing of the host and nothing of others is had, and limits hold."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from tests.e2e.gate_process import POLICY, cli
from tests.e2e.harness import BUSYBOX
from tests.e2e.test_builds import tar_of

pytestmark = pytest.mark.engine


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
    "VolumesFrom": ["foreign-attacks"],
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
    "Links": ["foreign-attacks:x"],
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
        for name in ("foreign-attacks", container.id, container.short_id, "no-such-container")
    ]
    assert {status for status, _ in answers} == {404}, answers
    assert {answer["message"].rpartition(" ")[0] for _, answer in answers} == {"No such container:"}
    container.reload()
    assert (container.status, container.name) == ("running", "foreign-attacks")


def test_others_networks_and_volumes_are_not_there(gate, foreign):
    for path in ("/networks/foreign-attacks", "/volumes/foreign-attacks", f"/networks/{foreign['network'].id}"):
        for method in ("GET", "DELETE"):
            assert gate.ask(method, path)[0] == 404
    assert gate.create(HostConfig={"NetworkMode": "foreign-attacks"})[0] == 400
    assert gate.create(HostConfig={"NetworkMode": f"container:{foreign['container'].id}"})[0] == 400
    assert gate.create(HostConfig={"PidMode": "container:foreign-attacks"})[0] == 400
    assert gate.create(NetworkingConfig={"EndpointsConfig": {"foreign-attacks": {}}})[0] == 400
    assert {each["Name"] for each in gate.ask("GET", "/networks")[1]} <= {"bridge", "host", "none"}
    for prune in ("containers", "networks", "volumes", "images"):
        assert gate.ask("POST", f"/{prune}/prune")[0] == 200
    foreign["network"].reload()
    foreign["volume"].reload()


@pytest.mark.parametrize("network", ["host", "none"])
def test_networks_of_the_engine_are_shown_and_not_to_be_had(gate, foreign, network):
    shown = gate.ask("GET", f"/networks/{network}")[1]
    there = gate.engine.containers.create(BUSYBOX, ["sleep", "60"], network=network)
    gate.create("box")
    try:
        there.start()
        assert gate.ask("GET", f"/networks/{network}")[1] == shown, "nor is it told what is on it"
    finally:
        there.remove(force=True)
    for name in (network, shown["Id"], shown["Id"][:12]):
        assert gate.ask("DELETE", f"/networks/{name}")[0] == 404
        for call in ("connect", "disconnect"):
            assert gate.ask("POST", f"/networks/{name}/{call}", {"Container": "box"})[0] == 404
        assert gate.create(NetworkingConfig={"EndpointsConfig": {name: {}}})[0] in {400, 403}
        assert name == "none" or gate.create(HostConfig={"NetworkMode": name})[0] in {400, 403}


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
        ("GET", "/swarm"),
        ("POST", "/swarm/init"),
        ("POST", "/plugins/pull?remote=x"),
        ("GET", "/secrets"),
        ("GET", "/nodes"),
        ("GET", "/services"),
        ("GET", "/configs"),
        ("POST", "/session/x"),
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
        b"GET /v1.45/containers/json?all=0&all=1 HTTP/1.1\r\nHost: x\r\n\r\n",
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


@pytest.mark.parametrize(
    "options",
    [
        *(
            "-eo pid=PID",
            "auxe;",
            "-p $(id)",
            "axfeww -o lstart,rss,user,pid,args",
            "-o args,pid",
            "-o comm,pid",
            "-o pid,pid",
        ),
        *("-faux", "fauxe", "x aux -p 1", "x -efm", "x o lstart,pid"),
        *("-o user", "H", "-C dockerd -H -o args,pid", "aux --forest", "f -o lstart,pid", "-o pid -o args", "-o pid,e"),
    ],
)
def test_options_with_which_the_hosts_ps_could_tell_of_others_are_refused(gate, options):
    gate.create("box")
    gate.ask("POST", "/containers/box/start")
    assert gate.ask("GET", f"/containers/box/top?ps_args={quote(options)}")[0] == 403


@pytest.mark.parametrize(
    "options",
    [
        *("", "aux", "-ef", "-eo pid,user,args", "-o user,pid,ppid,stime,cmd", "axo pid", "-A", "l"),
        *("auxww", "-efw", "aux ww", "-o pid,args -ww", "x auxww", "faux", "fauxww"),
    ],
)
def test_the_hosts_ps_tells_of_the_containers_own_processes_alone(gate, foreign, options):
    gate.create("box", Cmd=["sleep", "987"])
    gate.ask("POST", "/containers/box/start")
    status, told = gate.ask("GET", f"/containers/box/top?ps_args={quote(options)}")
    assert status == 200, told
    assert len(told["Processes"]) == 1
    assert "pid" in options or "sleep" in told["Processes"][0][-1]


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
        {"IPAM": {"Config": [{"Subnet": "8.8.8.0/24"}]}},
        {"Ingress": True},
        {"ConfigFrom": {"Network": "x"}, "ConfigOnly": True},
        {"Name": "host"},
        {"Scope": "swarm"},
    ],
)
def test_a_network_is_a_plain_bridge(gate, body):
    assert gate.ask("POST", "/networks/create", {"Name": "net", **body})[0] in (400, 403)


def test_what_is_passed_over_does_not_reach_the_engine(gate):
    gate.create(HostConfig={"Annotations": {"run.oci.handler": "x"}, "OomKillDisable": True, "BlkioWeight": 10})
    (host,) = (each["HostConfig"] for each in gate.own())
    assert not {host.get(name) for name in ("Annotations", "OomKillDisable", "BlkioWeight")} - {None, False}
    options = {f"com.docker.network.bridge.{name}": "docker0" for name in ("name", "host_binding_ipv4")}
    _, made = gate.ask("POST", "/networks/create", {"Name": "net", "Options": options})
    assert gate.engine.networks.get(made["Id"]).attrs["Options"] == {}
    assert gate.ask("DELETE", "/networks/net")[0] == 204


def test_a_network_goes_from_under_a_stopped_container_and_bridge_does_not(gate):
    for name in ("net-a", "net-b"):
        gate.ask("POST", "/networks/create", {"Name": name})
    _, made = gate.create("box", HostConfig={"NetworkMode": "net-a"})
    assert gate.ask("POST", "/networks/net-b/connect", {"Container": "box"})[0] == 200
    assert gate.ask("DELETE", "/networks/net-b")[0] == 204
    own = gate.ask("GET", "/networks/bridge")[1]["Id"]
    for name in (own, "bridge", gate.engine.networks.get(own).name):
        assert gate.ask("DELETE", f"/networks/{name}")[0] in (403, 404)
    assert gate.ask("POST", "/networks/prune")[1]["NetworksDeleted"] == ["net-a"]
    assert gate.ask("POST", "/containers/box/start")[0] == 404
    theirs = gate.engine.networks.create("net-a")
    try:
        assert gate.ask("POST", "/containers/box/start")[0] == 404, "the name is below the build's prefix"
    finally:
        theirs.remove()
    gate.ask("POST", "/networks/create", {"Name": "net-a"})
    gate.ask("POST", "/networks/create", {"Name": "net-b"})
    assert gate.ask("POST", "/containers/box/start")[0] == 204
    for name in ("net-a", "net-b"):
        assert gate.ask("DELETE", f"/networks/{name}")[0] == 403, "it is in use"
    gate.ask("DELETE", f"/containers/{made['Id']}?force=1")
    assert sorted(gate.ask("POST", "/networks/prune")[1]["NetworksDeleted"]) == ["net-a", "net-b"]


def test_a_network_stays_while_ports_are_to_be_published_at_its_gateway(gate):
    """Its gateway could be another build's by the time the container starts."""
    for name in ("net-a", "net-b"):
        gate.ask("POST", "/networks/create", {"Name": name})
    endpoints = {"EndpointsConfig": {"net-b": {}}}
    _, made = gate.create(
        "box", HostConfig={"NetworkMode": "net-a", "PortBindings": {"80/tcp": [{}]}}, NetworkingConfig=endpoints
    )
    assert gate.ask("POST", "/networks/net-b/disconnect", {"Container": "box", "Force": True})[0] == 200
    assert gate.ask("DELETE", "/networks/net-b")[0] == 409
    assert gate.ask("POST", "/networks/prune")[1] == {"NetworksDeleted": []}
    assert gate.ask("DELETE", f"/containers/{made['Id']}?force=1")[0] == 204
    assert gate.ask("DELETE", "/networks/net-b")[0] == 204


def test_how_much_there_is_of_the_host_is_not_told_by_links(gate):
    (gate.files / "root").symlink_to("/")
    answers = [
        gate.create(HostConfig={"Binds": [f"/workspace/root/etc/{each}:/x"]})[0] for each in ("shadow", "nothing")
    ]
    assert answers[0] == answers[1]
    (gate.files / "root").unlink()
    assert gate.create(HostConfig={"Binds": [f"/workspace/{'a' * 300}:/x"]})[0] == 400


def test_the_engines_socket_is_not_the_hosts_to_change(gate):
    words = ["-v", "/var/run/docker.sock:/var/run/docker.sock", BUSYBOX, "chmod", "777", "/var/run/docker.sock"]
    assert cli(gate, "run", "--rm", *words, check=False).returncode == 1
    assert gate.socket.stat().st_mode & 0o777 == 0o600


def test_no_limit_is_passed_by_asking_many_times_at_once(gate_of):
    gate = gate_of("many", POLICY + 'execs = 3\nimage_bytes = "8m"\ntags = 4\n').start()
    gate.create("box")
    gate.ask("POST", "/containers/box/start")
    with ThreadPoolExecutor(20) as many:
        asked = [many.submit(gate.ask, "POST", "/containers/box/exec", {"Cmd": ["true"]}) for _ in range(20)]
        assert sorted(each.result()[0] for each in asked) == [201] * 3 + [403] * 17
        layers = [tar_of({"file": os.urandom(6_000_000)}) for _ in range(6)]
        made = [many.submit(gate.ask, "POST", "/images/create?fromSrc=-", each) for each in layers]
        assert [each.result()[0] for each in made].count(200) >= 1
    sizes = [
        gate.ask("GET", f"/images/{each['Id']}/json")[1]["Size"]
        for each in gate.ask("GET", "/images/json?all=1")[1]
        if not each["RepoTags"]
    ]
    assert 0 < sum(sizes) < 8 * 1024**2
    for number in range(6):
        gate.ask("POST", "/images/create?fromSrc=-", tar_of({"file": b"%d" % number}))
    assert sum(not each["RepoTags"] for each in gate.ask("GET", "/images/json?all=1")[1]) == 4


def test_volumes_in_memory_have_no_more_than_a_container(gate):
    def made(name, **options):
        body = {"Name": name, "DriverOpts": {"type": "tmpfs", "device": "tmpfs", **options}}
        return gate.ask("POST", "/volumes/create", body)[0]

    assert made("large", o="size=300m") == 403
    assert made("part", o="size=5%") == 403
    assert made("half", o="size=128m,mode=700") == 201
    assert made("more", o="size=129m") == 403
    assert made("all") == 403
    assert gate.ask("DELETE", "/volumes/half")[0] == 204
    assert made("all") == 201
    words = ["-v", "all:/all", BUSYBOX, "sh", "-c", "df -m /all | tail -1"]
    assert cli(gate, "run", "--rm", *words).stdout.split()[1] == b"256"
    cli(gate, "volume", "rm", "all")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/containers/json?limit={'9' * 5000}", 400),
        ("GET", "/containers/json?limit=x", 400),
        ("GET", "/containers/json?all=%00", 400),
        ("POST", "/containers/box/attach?detachKeys=zzzz&stream=1&stdout=1", 400),
        ("GET", f"/containers/json?filters={quote(json.dumps({'status': ['nonsense']}))}", 400),
    ],
)
def test_what_is_not_understood_is_told(gate, method, path, status):
    gate.create("box")
    assert gate.ask(method, path)[0] == status


def test_a_body_that_would_keep_all_gates_busy_is_refused(gate):
    assert gate.create(Env=["x" * 300_000])[0] == 400
    assert gate.create(Env=["x" * 200_000])[0] == 201
