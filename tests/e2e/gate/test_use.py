"""What people do with a gate on a real engine: containers, files, networks, events."""

import json
import os
import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from tests.e2e.gate_process import POLICY, cli
from tests.e2e.harness import BUSYBOX, until

pytestmark = pytest.mark.engine


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
    assert cli(gate, "logs", "--details", "box").stdout == b" 1\n 2\n 3\n"
    assert cli(gate, "wait", "box").stdout == b"0\n"
    assert b"A /new" in cli(gate, "diff", "box").stdout
    cli(gate, "rename", "box", "other")
    cli(gate, "start", "other")
    assert b"other" in cli(gate, "ps").stdout
    assert b"sleep" in cli(gate, "top", "other").stdout
    assert b"other" in cli(gate, "stats", "--no-stream", "other").stdout
    cli(gate, "restart", "-t", "0", "other")
    cli(gate, "stop", "-t", "0", "other")
    cli(gate, "wait", "other")  # a busy engine says that it has stopped before that is so
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
    missing = ["--mount", "type=bind,source=/workspace/src/none,target=/src", BUSYBOX, "true"]
    told = cli(gate, "run", *missing, check=False)
    assert (told.returncode, b"bind source path does not exist: /workspace/src/none" in told.stderr) == (125, True)
    cli(gate, "create", "--name", "box", *mount, BUSYBOX)
    (shown,) = json.loads(cli(gate, "inspect", "box").stdout)
    assert [(each["Type"], each["Source"], each["Destination"]) for each in shown["Mounts"]] == [
        ("bind", "/workspace/src", "/src")
    ]
    assert shown["HostConfig"]["Binds"] == ["/workspace/src:/src"]
    assert "Mounts" not in shown["HostConfig"]
    assert shown["Config"]["Image"] == BUSYBOX
    assert shown["Config"]["Labels"] == gate.engine.images.get(BUSYBOX).labels


def test_the_workspace_is_there_again_if_the_host_pruned_its_volume(gate_of):
    gate = gate_of("workspace-pruned").start()
    (gate.files / "file").write_text("there\n")
    gate.engine.volumes.get("sibling-gate-workspace-pruned-workspace").remove()
    assert cli(gate, "run", "--rm", "-v", "/workspace:/w", BUSYBOX, "cat", "/w/file").stdout == b"there\n"
    assert gate.stop() == 0
    assert (gate.files / "file").exists()


def test_links_in_the_workspace_lead_where_they_do_in_the_build(gate):
    (gate.files / "releases/1/deep").mkdir(parents=True)
    (gate.files / "releases/1/deep/file").write_text("linked\n")
    for name, target in {
        "current": "/workspace/releases/1",
        "again": "current",
        "all": "/workspace/",
        "around": "/workspace/around",
        "out": "/etc",
        "beside": "/workspace-not/releases",
        "none": "/root/none",
        "cwd": "/proc/1/cwd/x",
    }.items():
        (gate.files / name).symlink_to(target)
    for source in ("current/deep", "again/deep", "all/releases/1/deep", "all/all/current/deep"):
        words = ["-v", f"/workspace/{source}:/d:ro", BUSYBOX, "cat", "/d/file"]
        assert cli(gate, "run", "--rm", *words).stdout == b"linked\n"
    assert b"releases" in cli(gate, "run", "--rm", "-v", "/workspace/all:/d:ro", BUSYBOX, "ls", "/d").stdout
    words = ["--mount", "type=bind,source=/workspace/current/deep/file,target=/f", BUSYBOX, "cat", "/f"]
    assert cli(gate, "run", "--rm", *words).stdout == b"linked\n"
    said = set()
    for source in ("around", "out", "beside", "none", "cwd"):
        refused = cli(gate, "run", "--rm", "-v", f"/workspace/{source}:/d", BUSYBOX, "ls", "/d", check=False)
        assert refused.returncode in {125, 127}
        assert refused.stdout == b""
        said.add(refused.stderr)
    assert len(said) == 1, "what is there of the host is not told"


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


def test_the_network_of_containers_that_name_none_is_made_anew_if_the_host_pruned_it(gate_of):
    gate = gate_of("pruned").start()
    cli(gate, "create", "--name", "before", BUSYBOX, "true")
    (found,) = gate.engine.networks.list(filters={"label": "sibling.gate=pruned"})
    found.remove()
    assert cli(gate, "run", "--rm", BUSYBOX, "echo", "again").stdout == b"again\n"
    (made,) = gate.engine.networks.list(filters={"label": "sibling.gate=pruned"})
    assert made.id != found.id
    assert gate.client.networks.get("bridge").id == made.id
    assert [each.id for each in gate.client.networks.list(names=["bridge"])] == [made.id]
    assert cli(gate, "start", "-a", "before").returncode == 0


def test_networks_are_builtin_or_custom_by_the_names_that_are_shown(gate):
    gate.create("box")
    cli(gate, "network", "create", "net")

    def found(*filters):
        words = [word for each in filters for word in ("--filter", each)]
        return cli(gate, "network", "ls", "--format", "{{.Name}} {{.Driver}}", *words).stdout.decode().splitlines()

    builtin = ["bridge bridge", "host host", "none null"]
    assert found("type=custom") == ["net bridge"]
    assert found("type=builtin") == builtin
    assert found() == found("type=builtin", "type=custom") == sorted([*builtin, "net bridge"])
    assert found("dangling=true") == ["net bridge"]
    assert found("name=^no", "driver=null", "scope=local") == ["none null"]
    wrong = cli(gate, "network", "ls", "--filter", "type=own", check=False)
    assert b"invalid filter: 'type'='own'" in wrong.stderr
    ids = cli(gate, "network", "ls", "-q").stdout.decode().split()
    shown = json.loads(cli(gate, "network", "inspect", *ids, "host", "none").stdout)
    assert sorted(each["Name"] for each in shown) == ["bridge", "host", "host", "net", "none", "none"]
    cli(gate, "network", "rm", *cli(gate, "network", "ls", "-q", "--filter", "type=custom").stdout.decode().split())
    assert found("type=custom") == []


SERVER = ["sh", "-c", "echo page >/index.html; httpd -f -h /"]


def served(address):
    """The page that `SERVER` serves there; waits for it."""

    def fetched():
        try:
            return urllib.request.urlopen(f"http://{address}/", timeout=5).read()
        except OSError:
            return None

    return until(fetched, 20, f"the page at {address}")


def test_a_published_port_is_reached_at_the_networks_gateway_alone(gate):
    cli(gate, "run", "-d", "--name", "web", "-p", "8080:80", BUSYBOX, *SERVER)
    address = cli(gate, "port", "web", "80/tcp").stdout.decode().split()[0]
    host, _, port = address.rpartition(":")
    assert port == "8080"
    (shown,) = json.loads(cli(gate, "inspect", "web").stdout)
    assert host == shown["NetworkSettings"]["Gateway"] == shown["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    assert served(address) == b"page\n"


def test_a_network_has_addresses_of_the_builds_choice_where_policy_has_some(gate_of):
    gate = gate_of("subnets", 'subnets = ["198.19.7.0/24"]\n' + POLICY).start()
    cli(gate, "network", "create", "--subnet", "198.19.7.0/28", "--ip-range", "198.19.7.8/29", "net")
    cli(gate, "run", "-d", "--name", "web", "--network", "net", "--ip", "198.19.7.3", "-p", "8080:80", BUSYBOX, *SERVER)
    shown = gate.client.containers.get("web").attrs["NetworkSettings"]["Networks"]["net"]
    assert (shown["IPAddress"], shown["Gateway"]) == ("198.19.7.3", "198.19.7.9")
    assert served("198.19.7.3:80") == served("198.19.7.9:8080") == b"page\n"
    taken = cli(gate, "network", "create", "--subnet", "198.19.7.0/25", "second", check=False)
    assert b"overlap" in taken.stderr
    refused = cli(gate, "network", "create", "--subnet", "198.19.8.0/24", "elsewhere", check=False)
    assert b"198.19.8.0/24 is in none of the subnets" in refused.stderr


def test_events_are_the_builds_own(gate, foreign):
    events = gate.client.events(decode=True, filters={"type": "container", "event": "start"})
    foreign["container"].restart(timeout=0)
    cli(gate, "run", "--name", "box", BUSYBOX, "true")
    assert next(events)["Actor"]["Attributes"]["name"] == "box"
    events.close()


def test_events_tell_of_all_that_the_build_makes_as_it_is_made(gate, foreign):
    events = gate.client.events(decode=True)
    foreign["container"].restart(timeout=0)
    cli(gate, "network", "create", "told")
    cli(gate, "volume", "create", "told")
    cli(gate, "run", "--rm", "--name", "told", "--network", "told", "-v", "told:/d", BUSYBOX, "true")
    cli(gate, "run", "--rm", "--name", "told", BUSYBOX, "true")
    cli(gate, "network", "rm", "told")
    cli(gate, "volume", "rm", "told")
    seen = []
    while not seen or seen[-1][:2] != ("volume", "destroy"):
        event = next(events)
        actor = event["Actor"]
        seen.append((event["Type"], event["Action"], actor["Attributes"].get("name", actor["ID"])))
    events.close()
    assert {name for kind, _, name in seen} == {"told", "bridge"}
    assert ("network", "create", "told") in seen
    assert [action for kind, action, name in seen if kind == "volume"] == ["create", "mount", "unmount", "destroy"]
    assert [action for kind, action, _ in seen if kind == "container"][:2] == ["create", "attach"]
    for kind in ("volume", "network"):
        cli(gate, kind, "create", "told")
        words = ["events", "--since", "1h", "--until", str(int(time.time()) + 1), "--format", "{{.Action}}"]
        assert b"create" in cli(gate, *words, "--filter", f"{kind}=told", "--filter", f"type={kind}").stdout
        cli(gate, kind, "rm", "told")


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
    assert "foreign-" not in json.dumps(info)


def test_disk_usage_is_of_the_builds_own(gate, foreign):
    cli(gate, "run", "--name", "used", "-v", "filled:/d", BUSYBOX, "sh", "-c", "head -c 5000000 /dev/zero >/d/x")
    cli(gate, "commit", "used", "used:1")
    usage = gate.ask("GET", "/system/df")[1]
    assert [each["Names"] for each in usage["Containers"]] == [["/used"]]
    assert [(each["Name"], each["UsageData"]["RefCount"]) for each in usage["Volumes"]] == [("filled", 1)]
    assert [each["RepoTags"] for each in usage["Images"]] == [["used:1"]]
    assert b"Local Volumes" in cli(gate, "system", "df").stdout
    cli(gate, "rm", "used")
    cli(gate, "volume", "rm", "filled")
    cli(gate, "rmi", "used:1")


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


def test_events_are_found_by_the_image_that_the_build_named(gate):
    cli(gate, "tag", BUSYBOX, "own/told:1")
    for name, image in (("shared", BUSYBOX), ("tagged", "own/told:1")):
        cli(gate, "run", "--name", name, image, "true")
    soon = str(int(time.time()) + 2)

    def found(*images):
        words = [word for each in images for word in ("--filter", f"image={each}")]
        told = cli(gate, "events", "--since", "1h", "--until", soon, "--filter", "event=create", *words)
        return [each.decode() for each in re.findall(rb"name=(shared|tagged)", told.stdout)]

    assert found("own/told:1") == found("own/told") == ["tagged"]
    assert found(BUSYBOX) == found(BUSYBOX.partition(":")[0]) == ["shared"]
    assert found("own/told", BUSYBOX) == ["shared", "tagged"]
    assert found("own/told:2") == []
    cli(gate, "rm", "shared", "tagged")
    cli(gate, "rmi", "own/told:1")


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


# ------------------------------------------------------------------------- what clients send besides, and look for


def test_what_clients_repeat_or_send_back_is_passed_over(gate):
    """dockerode, docker-java and testcontainers-go, as seen on 2026-11-29."""
    body = {"Image": BUSYBOX, "name": "box", "platform": "linux/amd64", "Cmd": ["sleep", "600"]}
    query = "name=box&Cmd=sleep&Cmd=600&Image=x"
    endpoint = {"NetworkID": "0" * 64, "EndpointID": "", "Gateway": "1.2.3.4", "IPPrefixLen": 16, "Aliases": ["other"]}
    body["NetworkingConfig"] = {"EndpointsConfig": {"bridge": endpoint}}
    assert gate.ask("POST", f"/containers/create?{query}", body)[0] == 201
    assert gate.ask("POST", "/containers/box/start?t=1", {"t": 1})[0] == 204
    status, made = gate.ask("POST", "/containers/box/exec", {"Cmd": ["true"], "containerId": "box", "privileged": None})
    assert status == 201
    assert gate.ask("POST", f"/exec/{made['Id']}/start", {"Detach": True, "stdin": True, "hijack": True})[0] == 200
    said_again = {"AttachStderr": False, "Env": None, "container": "box", "repo": "app"}
    assert gate.ask("POST", "/commit?container=box&repo=app", said_again)[0] == 201
    assert gate.ask("POST", "/commit?container=box&repo=app", {"User": "root"})[0] == 403
    net = b'{"Name": "net", "enableIPv6": null, "EnableIPv6": null, "IPAM": {"Config": [{"Subnet": null}]}}'
    assert gate.ask("POST", "/networks/create", net)[0] == 201
    assert gate.ask("DELETE", "/networks/net")[0] == 204
    assert gate.ask("GET", f"/images/{quote(BUSYBOX, safe='')}/json")[0] == 200
    assert gate.ask("GET", "/images/testcontainers%2Fsshd:1.3.0/json")[0] == 404
    assert gate.ask("DELETE", "/images/app")[0] == 200


@pytest.mark.parametrize("field", ["Connection: Upgrade\r\nUpgrade: tcp\r\n", ""], ids=["upgrade", "plain"])
def test_the_body_of_an_attach_is_no_input(gate, field):
    """dockerode sends the query there as well."""
    gate.create("box", Cmd=["head", "-n1"], OpenStdin=True, StdinOnce=True, AttachStdin=True)
    gate.ask("POST", "/containers/box/start")
    path, body = "/v1.45/containers/box/attach?stream=1&stdin=1&stdout=1", b'{"stream":true,"stdin":true,"hijack":true}'
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{field}Content-Length: {len(body)}\r\n\r\n"
    assert gate.send(head.encode() + body + b"input\n").endswith(b"input\n")
    assert gate.ask("POST", "/containers/box/wait")[1]["StatusCode"] == 0
    assert cli(gate, "logs", "box").stdout == b"input\n"


def test_a_name_that_is_taken_is_told_in_the_engines_words(gate):
    _, made = gate.create("box")
    status, answer = gate.create("box")
    assert status == 409
    assert f'The container name "/box" is already in use by container "{made["Id"]}"' in answer["message"]


@pytest.mark.parametrize(
    "words",
    [
        ("--network", "nosuch"),
        ("--network", "container:nosuch"),
        ("--pid", "container:nosuch"),
        ("--ipc", "container:nosuch"),
        ("--link", "nosuch:l"),
        ("--volumes-from", "nosuch"),
    ],
)
def test_what_is_not_there_at_a_create_is_not_taken_for_the_image(gate, words):
    ran = cli(gate, "run", "--rm", *words, BUSYBOX, "true", check=False)
    assert ran.returncode == 125
    assert b"locally" not in ran.stderr, "it would be pulled"
    kind = b"network nosuch not found" if words == ("--network", "nosuch") else b"No such container: nosuch"
    assert kind in ran.stderr


def test_docker_inspect_tells_images_with_slashes_and_what_there_is_not(gate):
    gate.create("box")
    shown = json.loads(cli(gate, "inspect", BUSYBOX, "box").stdout)
    assert [each.get("Name", "image") for each in shown] == ["image", "/box"]
    missing = cli(gate, "inspect", "team/nothing:1", check=False)
    assert b"No such object: team/nothing:1" in missing.stderr


def test_ports_are_shown_once_though_they_are_at_two_gateways(gate):
    cli(gate, "network", "create", "net")
    cli(gate, "run", "-d", "--name", "web", "--network", "net", "-p", "8081:80", BUSYBOX, *SERVER)
    gateway = gate.ask("GET", "/networks/bridge")[1]["IPAM"]["Config"][0]["Gateway"]
    assert cli(gate, "port", "web").stdout.decode() == f"80/tcp -> {gateway}:8081\n"
    (listed,) = gate.ask("GET", "/containers/json")[1]
    assert [each["IP"] for each in listed["Ports"]] == [gateway]
    words = ["--add-host", "host.docker.internal:host-gateway", "--network", "net", BUSYBOX]
    reached = cli(gate, "run", "--rm", *words, "wget", "-qO-", f"http://{gateway}:8081/")
    named = cli(gate, "run", "--rm", *words, "cat", "/etc/hosts")
    assert reached.stdout == b"page\n"
    assert f"{gateway}\thost.docker.internal".encode() in named.stdout
    cli(gate, "rm", "-f", "web")
    cli(gate, "network", "rm", "net")


def test_prune_means_what_its_filters_say(gate):
    cli(gate, "create", "--name", "kept", "--label", "keep=1", BUSYBOX, "true")
    cli(gate, "create", "--name", "gone", BUSYBOX, "true")
    cli(gate, "network", "create", "--label", "a=1", "net-a")
    cli(gate, "volume", "create", "--label", "a=1", "volume-a")
    assert cli(gate, "container", "prune", "-f", "--filter", "until=1h").stdout.count(b"\n") == 1
    cli(gate, "container", "prune", "-f", "--filter", "label!=keep")
    assert cli(gate, "ps", "-a", "--format", "{{.Names}}").stdout == b"kept\n"
    for words in (("label=a=2",), ("until=24h",)):
        cli(gate, "network", "prune", "-f", "--filter", *words)
    cli(gate, "volume", "prune", "-af", "--filter", "label=b")
    assert b"net-a" in cli(gate, "network", "ls").stdout
    assert b"volume-a" in cli(gate, "volume", "ls").stdout
    cli(gate, "network", "prune", "-f", "--filter", "label=a=1", "--filter", "until=0s")
    cli(gate, "volume", "prune", "-af", "--filter", "label=a")
    assert b"net-a" not in cli(gate, "network", "ls").stdout
    assert b"volume-a" not in cli(gate, "volume", "ls").stdout
    wrong = cli(gate, "container", "prune", "-f", "--filter", "until=yesterday", check=False)
    assert b"is no time" in wrong.stderr
    assert cli(gate, "system", "prune", "-f").returncode == 0
    assert cli(gate, "ps", "-aq").stdout == b""


def test_small_things_are_as_on_a_socket(gate):
    gate.create("box")
    assert cli(gate, "diff", "box").stdout == b""
    assert cli(gate, "volume", "rm", "-f", "nothing").returncode == 0
    assert cli(gate, "ps", "-aq", "--filter", "name=/box").stdout
    assert cli(gate, "ps", "-aq", "--filter", "is-task=false").stdout.count(b"\n") == 1
    assert cli(gate, "ps", "-aq", "--filter", "is-task=true").stdout == b""
    assert b"is-task=[x]" in cli(gate, "ps", "-aq", "--filter", "is-task=x", check=False).stderr
    assert cli(gate, "plugin", "ls", "-q").stdout == b""
    assert cli(gate, "version", "--format", "{{.Server.Os}}/{{.Server.Arch}}").stdout.strip() == b"linux/amd64"
    cli(gate, "tag", BUSYBOX, "team/app:1")
    cli(gate, "tag", BUSYBOX, "other:1")
    assert cli(gate, "images", "--format", "{{.Repository}}:{{.Tag}}", "team/app").stdout == b"team/app:1\n"
    assert cli(gate, "images", "-q", "--filter", "reference=*").stdout.count(b"\n") == 1
    foreign = cli(gate, "create", "--platform", "linux/arm64", BUSYBOX, check=False)
    assert foreign.returncode != 0
    cli(gate, "rmi", "team/app:1", "other:1")


def test_input_that_nobody_reads_is_no_fault(gate):
    for _ in range(6):
        ended = cli(gate, "run", "--rm", "-i", BUSYBOX, "true", stdin=bytes(3_000_000))
        assert ended.returncode == 0
