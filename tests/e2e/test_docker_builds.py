"""Builds of images through the socket of a scoped build, by the clients that people use, on a real engine."""

import time

import pytest

from tests.e2e.harness import BUSYBOX, ServiceProcess, until
from tests.e2e.test_builds import tar_of
from tests.e2e.test_docker_access import assert_nothing_of_docker_is_left
from tests.e2e.test_docker_daemons import DIND, assert_nothing_left, caches

pytestmark = pytest.mark.engine
DOCKERFILE = f"FROM {BUSYBOX}\nARG SAID=made\nRUN echo $SAID >/made\nCOPY file /file\nCMD cat /made /file\n"
FILES = {"Dockerfile": DOCKERFILE, "file": "mine\n"}
TAGS = "docker images --format '{{.Repository}}:{{.Tag}}' | grep -v ^sibling-test/ | sort"


@pytest.fixture(scope="module")
def shared(tmp_path_factory, docker_host):
    settings = {
        "daemon__image": DIND,
        "daemon__memory": "1g",
        "docker__images": f"{BUSYBOX},sibling-test/user:*",
    }
    made = ServiceProcess(tmp_path_factory.mktemp("service"), docker_host, **settings).start()
    yield made
    for volume in caches(made):
        volume.remove()
    made.destroy()


@pytest.fixture
def post(service, clients):
    """Posts a build with a socket of its own and these files."""

    def post(*commands, files=FILES, **request):
        content = tar_of({name: text.encode() for name, text in files.items()})
        source = service.client.put("/v1/sources", content=content).json()
        return service.post(
            image=clients,
            docker="scoped",
            commands=list(commands),
            source={"type": "uploaded", "id": source["id"]},
            **request,
        )

    yield post
    assert_nothing_of_docker_is_left(service)
    assert_nothing_left(service)
    assert "fault in the gate" not in service.log.read_text()


@pytest.fixture
def run(service, post):
    """Runs one, and returns what it wrote to standard output."""

    def run(*commands, files=FILES, result="SUCCESS", **request):
        build = service.wait(post(*commands, files=files, **request), 120)
        assert build["result"] == result, service.text(build["id"]).decode()
        run.told = service.text(build["id"]).decode()
        return service.streams(build["id"])["stdout"].decode()

    return run


def test_what_is_built_runs_and_the_next_build_of_the_domain_finds_the_cache(service, run):
    build = "docker build --build-arg SAID=$SAID --progress plain -t app:1 . 2>&1 | grep -c CACHED || :"
    first = run("SAID=first", build, "docker run --rm app:1", "docker image inspect -f '{{.RepoTags}}' app:1", TAGS)
    assert first == "0\nfirst\nmine\n[app:1]\napp:1\n"
    again = run("SAID=first", TAGS, build, "docker run --rm app:1")
    assert again == "2\nfirst\nmine\n", "the layers are there, the names are not"
    assert len(caches(service)) == 1


WAYS = (
    "DOCKER_BUILDKIT=0 docker build -q -t app .",
    "DOCKER_BUILDKIT=1 docker build -q -t app .",
    "docker build -q .",
    "docker buildx build -q --load -t app .",
    "docker buildx build -q --iidfile id -t app . >/dev/null && cat id",
    "python3 -c \"import docker; print(docker.from_env().images.build(path='.')[0].id)\"",
)


def test_every_way_to_build_ends_with_an_image_that_runs_by_its_id(run):
    out = run(
        *(f'id=$({way}); echo "$id" | cut -c1-7; docker run --rm "$id"; docker rmi -f "$id" >/dev/null' for way in WAYS)
    )
    assert out == len(WAYS) * "sha256:\nmade\nmine\n"


def test_compose_builds_what_it_starts(run):
    files = {"compose.yaml": "services:\n  app:\n    build: .\n  other:\n    build: .\n    command: cat /file\n"}
    out = run("docker compose up --build --no-log-prefix", TAGS, files=FILES | files)
    assert out.splitlines() == ["made", "mine", "work-app:latest", "work-other:latest"] or "mine" in out


def test_files_of_a_build_come_back(run):
    dockerfile = "FROM scratch\nCOPY file /\n"
    out = run("docker build --output type=local,dest=out . && cat out/file", files={**FILES, "Dockerfile": dockerfile})
    assert out == "mine\n"


def test_a_secret_is_there_for_its_step_alone(run):
    step = "RUN --mount=type=secret,id=s cat /run/secrets/s >/dev/null\n"
    out = run(
        "echo s3cretword >secret; docker build -q --secret id=s,src=secret -t app . >/dev/null",
        "docker history --no-trunc app; docker save app | tr -d '\\0' | grep -c s3cretword || :",
        files={"Dockerfile": f"FROM {BUSYBOX}\n{step}", "file": ""},
    )
    assert "s3cretword" not in out
    assert out.endswith("\n0\n")


FROM_OWN = """\
docker run --name box {image} sh -c 'echo {name} >/by'
docker commit box {name}:1 >/dev/null; docker rm box >/dev/null
printf 'FROM {name}:1\\nRUN cat /by >/copy\\n' | docker build -q -t of-{name} - >/dev/null
docker run --rm of-{name} cat /copy
"""


def test_a_dockerfile_begins_with_images_that_the_build_has(run):
    own = "registry.example/team/own"
    out = run(
        FROM_OWN.format(image=BUSYBOX, name="own"),
        FROM_OWN.format(image="of-own", name="again"),
        f"docker tag own:1 {own}:2; docker rmi own:1 >/dev/null",
        f"printf 'FROM {own}:2\\n' | docker build -q -t third - >/dev/null; docker run --rm third cat /by",
        # An image that policy covers by a pattern.
        "printf 'FROM sibling-test/user:1\\n' | docker build -q - >/dev/null",
    )
    assert out == "own\nagain\nown\n"


def test_names_follow_what_the_build_does(run):
    build = "printf 'FROM " + BUSYBOX + "\\nRUN echo {0} >/by\\n' | docker build -q {1} - >/dev/null"
    out = run(
        build.format("one", "-t app:1 -t app:2"),
        "docker rmi app:1 >/dev/null",
        TAGS,
        build.format("two", "-t app:2"),
        "docker run --rm app:2 cat /by",
        "docker rmi -f app:2 >/dev/null",
        build.format("two", "-t app:3"),  # an image that the builder has still, and the engine has no more
        "docker run --rm app:3 cat /by",
        TAGS,
    )
    assert out == "app:2\ntwo\ntwo\n<none>:<none>\napp:3\n"


def test_an_image_that_another_was_made_from_goes_as_well(run):
    script = "DOCKER_BUILDKIT=0; export DOCKER_BUILDKIT; docker build -q -t parent . >/dev/null"
    child = "printf 'FROM parent\\nRUN echo more >/more\\n' | docker build -q -t child - >/dev/null"
    out = run(script, child, "docker rmi parent >/dev/null", child.replace("parent", "child"), TAGS)
    assert out == "<none>:<none>\nchild:latest\n"
    assert run(script, TAGS) == "parent:latest\n"


def test_a_shared_name_is_stood_in_for_in_the_build_alone(service, run):
    before = service.docker.images.get(BUSYBOX).id
    out = run(
        f"printf 'FROM {BUSYBOX}\\nRUN echo other >/by\\n' | docker build -q -t {BUSYBOX} - >/dev/null",
        f"docker run --rm {BUSYBOX} cat /by",
        f"docker rmi {BUSYBOX} >/dev/null; docker run --rm {BUSYBOX} ls /by || echo gone",
    )
    assert out == "other\ngone\n"
    assert service.docker.images.get(BUSYBOX).id == before


def test_a_step_gets_no_entitlement(run):
    asked = {"--network=host": "network.host", "--security=insecure": "security.insecure"}
    files = {f"Dockerfile{option}": f"FROM {BUSYBOX}\nRUN {option} true\n" for option in asked} | FILES
    builds = [f"buildx build --allow {name} -f Dockerfile{option} ." for option, name in asked.items()]
    builds += ["build --network host ."]
    out = run(*(f"docker {each} 2>&1 | grep -o '[a-z.]* is not allowed' | sort -u" for each in builds), files=files)
    assert out.split(" is not allowed\n") == ["network.host", "security.insecure", "network.host", ""]


def test_a_step_is_an_ordinary_container(run):
    step = "RUN grep -E '^(CapEff|Seccomp):' /proc/self/status >/s; cat /proc/mounts >/m; ! ls /workspace /run/sibling"
    out = run(
        "docker build -q -t app . >/dev/null; docker run --rm app cat /s",
        "docker run --rm app grep -c docker.sock /m || :",
        files={"Dockerfile": f"FROM {BUSYBOX}\n{step}\n"},
    )
    assert out == "CapEff:\t00000000a80425fb\nSeccomp:\t2\n0\n"


SWITCH = """\
import socket

ASK = b"GET /v1.45/containers/json?all=1 HTTP/1.1\\r\\nHost: docker\\r\\n\\r\\n"
for path in ("grpc", "session"):
    for early in (True, False):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10)
        s.connect("/var/run/docker.sock")
        head = f"POST /{path} HTTP/1.1\\r\\nHost: d\\r\\nConnection: Upgrade\\r\\nUpgrade: h2c\\r\\n"
        head += f"X-Docker-Expose-Session-Uuid: {early:d}\\r\\n\\r\\n"
        s.sendall(head.encode() + (ASK if early else b""))
        got = b"" if early else s.recv(65536)
        s.sendall(b"" if early else ASK)
        s.shutdown(socket.SHUT_WR)
        while data := s.recv(65536):
            got += data
        print(got.count(b"101"), b"Image" in got or b"200 OK" in got)
"""


def test_nothing_but_buildkit_answers_where_the_protocol_is_switched(run):
    assert run("python3 switch.py", files={"switch.py": SWITCH}) == 4 * "1 False\n"


def test_without_its_builder_a_build_has_its_images_and_the_next_image_a_new_one(service, post):
    build = post(
        "docker build -q -t app . >/dev/null; docker image inspect app >/dev/null; touch built",
        "until [ -e go ]; do sleep 0.1; done",
        "docker run --rm app",
        "docker build -q -t again --build-arg SAID=again . >/dev/null; docker run --rm again",
    )
    workspace = service.data / "workspaces" / build
    until((workspace / "built").exists, 60, "the image")
    service.docker.containers.get(f"sibling-{build}-docker").remove(force=True)
    (workspace / "go").touch()
    assert service.wait(build, 120)["result"] == "SUCCESS", service.text(build).decode()
    assert service.streams(build)["stdout"] == b"made\nmine\nagain\nmine\n"
    assert service.text(build).count(b"(build): the builder is gone") == 1


def test_after_a_builder_with_too_much_on_the_disk_the_next_has_an_empty_volume(service_with, clients):
    service = service_with(daemon__image=DIND, daemon__disk="1m", daemon__cache_size="1m", docker__images=BUSYBOX)
    start, wait = "docker build - </dev/null", "until [ -e go ]; do sleep 0.1; done"
    build = service.post(image=clients, docker="scoped", commands=[f"{start} || {wait}; docker images; {start} || :"])
    name = f"sibling-{build}-docker"
    until(lambda: service.docker.containers.list(all=True, filters={"name": name, "status": "exited"}), 90, "its end")
    (before,) = caches(service)
    (service.data / "workspaces" / build / "go").touch()
    assert service.wait(build, 120)["result"] == "SUCCESS", service.text(build).decode()
    made = service.docker.api.events(since=0, until=int(time.time()) + 1, filters={"volume": before.name}, decode=True)
    actions = [each["Action"] for each in made if each["Action"] in {"create", "destroy"}]
    assert actions[:3] == ["create", "destroy", "create"]
    assert service.text(build).count(b"is ready after") == 2
    assert_nothing_left(service)
    for volume in caches(service):
        volume.remove()


def test_the_builder_has_no_more_than_it_needs_and_listens_nowhere(service, post):
    build = post("docker build -q . >/dev/null; cat /proc/net/unix /proc/net/tcp; touch built; sleep 600")
    until((service.data / "workspaces" / build / "built").exists, 60, "the image")
    host = service.docker.containers.get(f"sibling-{build}-docker").attrs
    service.client.post(f"/v1/builds/{build}/cancel")
    service.wait(build)
    assert not host["HostConfig"]["Privileged"]
    assert {each["Destination"] for each in host["Mounts"]} == {"/run/sibling-docker", "/var/lib/docker"}
    sockets = service.streams(build)["stdout"].decode()
    assert "@" not in sockets, "a socket without a path, which all in the network can reach"
    listening = [line.split()[1] for line in sockets.splitlines() if " 0A " in line]
    assert {address.partition(":")[0] for address in listening} <= {"0B00007F"}, "but for Docker's own name server"


ASK = """\
import http.client, json, socket, sys

connection = http.client.HTTPConnection("docker")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("/var/run/docker.sock")
connection.request("POST", "/build?" + sys.argv[1], open("context.tar", "rb").read())
answer = connection.getresponse()
said = answer.read()
print(answer.status, json.loads(said)["message"] if answer.status == 403 else "")
"""


def test_what_is_asked_of_the_builder_before_buildkit(run):
    queries = ("networkmode=host", "networkmode=container:x", "t=a&t=beef&cgroupparent=/&securityopt=x")
    out = run(
        "tar cf context.tar Dockerfile file",
        *(f"python3 ask.py '{query}'" for query in queries),
        TAGS,
        files={**FILES, "ask.py": ASK},
    )
    host, container, built, tags = out.splitlines()
    assert host.startswith("403 Sibling's gate refuses this (build): networkmode")
    assert container.startswith("403 Sibling's gate refuses this (build): networkmode")
    assert (built, tags) == ("200 ", "a:latest"), "beef looks like an id"
    assert "(image-name)" in run.told


def test_an_image_that_is_too_large_is_told_and_is_not_there(service_with, clients):
    service = service_with(
        daemon__image=DIND, docker__images=BUSYBOX, docker__image_bytes="4m", builds__allowed_images=clients
    )
    dockerfile = f"FROM {BUSYBOX}\nRUN dd if=/dev/zero of=/big bs=1M count=9\n"
    source = service.client.put("/v1/sources", content=tar_of({"Dockerfile": dockerfile.encode()})).json()
    build = service.run(
        image=clients,
        docker="scoped",
        commands=["docker build -q -t big .", "docker run --rm big true || echo refused", f"docker run --rm {BUSYBOX}"],
        source={"type": "uploaded", "id": source["id"]},
    )
    assert build["result"] == "SUCCESS", service.text(build["id"])
    assert b"refused" in service.streams(build["id"])["stdout"]
    assert b"over 4194304 bytes" in service.streams(build["id"])["sibling"]
    for volume in caches(service):
        until(lambda volume=volume: not service.containers(), 30, "its daemon")
        volume.remove()


def test_it_goes_on_through_a_restart_of_the_service(service, post):
    build = post(
        "docker build -q -t app . >/dev/null; docker tag app kept; docker rmi app >/dev/null",
        "touch built; until [ -e go ]; do sleep 0.1; done; until docker version >/dev/null 2>&1; do sleep 0.1; done",
        TAGS,
        "printf 'FROM kept\\nRUN echo on >/by\\n' | docker build -q -t on - >/dev/null; docker run --rm on cat /by",
        TAGS,
    )
    until((service.data / "workspaces" / build / "built").exists, 60, "the image")
    service.kill()
    service.start()
    (service.data / "workspaces" / build / "go").touch()
    ended = service.wait(build)
    assert ended["result"] == "SUCCESS", service.text(build).decode()
    assert service.streams(build)["stdout"].decode().splitlines() == ["kept:latest", "on", "kept:latest", "on:latest"]


def test_a_service_without_an_image_for_daemons_says_what_to_do(service_with, clients):
    service = service_with()
    build = service.run(image=clients, docker="scoped", commands=["docker build - </dev/null || :"])
    assert b"(build)" in service.text(build["id"])
    assert b"sibling image build" in service.text(build["id"])
