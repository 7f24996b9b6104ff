"""A whole Docker daemon for one build (docker = "isolated"), on a real engine."""

import secrets
import subprocess
from pathlib import Path

import docker
import pytest

from tests.e2e.harness import BUSYBOX, until
from tests.e2e.registry import Registry, free_port, program
from tests.e2e.test_builds import tar_of

pytestmark = pytest.mark.engine
DIND = "sibling-test/dind:1"
BUILD_ON_MIRRORED = (
    "echo FROM mirrored:1 | docker build -q - && echo FROM mirrored:1 | DOCKER_BUILDKIT=0 docker build -q -"
)
REGISTRY = """\
FROM sibling-test/debian:1
COPY registry /usr/bin/
COPY config.json /etc/
ENTRYPOINT ["registry", "serve", "/etc/config.json"]
"""
LOAD = "docker load -q -i busybox.tar"
GET = 'from urllib.request import *; print(urlopen("http://127.0.0.1:8080/index.html").read())'


@pytest.fixture(scope="module")
def busybox(docker_host):
    """The image as an archive: a daemon of a build's own has none, and no registry to ask here."""
    return subprocess.run(["docker", "save", BUSYBOX], capture_output=True, check=True).stdout


@pytest.fixture
def service(service_with):
    made = service_with(daemon__image=DIND, daemon__memory="1g", daemon__volumes="2", queue__slots="4")
    yield made
    assert_nothing_left(made)
    for volume in caches(made):
        volume.remove()


@pytest.fixture
def post(service, clients, busybox):
    """Posts a build with a daemon of its own, which has the busybox image as `busybox.tar`."""

    def post(*commands):
        source = service.client.put("/v1/sources", content=tar_of({"busybox.tar": busybox})).json()
        return service.post(
            image=clients, docker="isolated", commands=list(commands), source={"type": "uploaded", "id": source["id"]}
        )

    return post


@pytest.fixture
def run(service, post):
    def run(*commands):
        build = service.wait(post(*commands), 120)
        assert build["result"] == "SUCCESS", service.text(build["id"]).decode()
        assert_nothing_left(service)  # its daemon has let go of its volume
        return service.streams(build["id"])["stdout"].decode()

    return run


def caches(service):
    own = (service.data / "service-id").read_text().strip()
    return service.docker.volumes.list(filters={"label": [f"sibling.service={own}", "sibling.role=docker-cache"]})


def assert_nothing_left(service):
    service.assert_nothing_left()
    until(lambda: not list((service.data / "daemons").iterdir()), 30, "the removal of all daemons' folders")


def test_what_the_gate_refuses_works_there(run):
    out = run(
        LOAD,
        f"docker run --rm --cap-add NET_ADMIN --security-opt seccomp=unconfined {BUSYBOX} ip link set lo down",
        'echo mine >file; docker run --rm -v "$PWD":/src ' + BUSYBOX + " cat /src/file",
        f"docker run -d -p 8080:80 {BUSYBOX} sh -c 'echo hello >index.html; httpd -f -p 80' >/dev/null",
        f"until python3 -c '{GET}'; do sleep 0.2; done",
        f"printf 'FROM {BUSYBOX}\\nRUN echo built >/file\\n' | DOCKER_BUILDKIT=0 docker build -q -t own - >/dev/null",
        "docker run --rm own cat /file",
    )
    assert out.splitlines()[1:] == ["mine", "b'hello\\n'", "built"]


def test_the_next_build_finds_images_and_layers_and_nothing_that_ran(service, run):
    build = f"printf 'FROM {BUSYBOX}\\nRUN echo built >/file\\n' | DOCKER_BUILDKIT=0 docker build -t own -"
    run(
        LOAD,
        f"docker run -d --restart always -v data:/d --name left {BUSYBOX} sleep 600",
        "docker network create n",
        build,
    )
    out = run("docker ps -aq; docker volume ls -q; docker network ls -q --filter type=custom", build)
    assert "Using cache" in out
    assert out.startswith("Sending build context")
    assert len(caches(service)) == 1


def test_two_at_once_have_volumes_of_their_own(service, post):
    wait = "touch here; until [ -e go ]; do sleep 0.1; done"
    builds = [post(LOAD, wait, f"docker run --rm {BUSYBOX} echo whole") for _ in range(3)]
    for build in builds:
        until(lambda build=build: (service.data / "workspaces" / build / "here").exists(), 60, "its daemon")
    assert len(caches(service)) == 2, "the third has one that goes with it"
    for build in builds:
        (service.data / "workspaces" / build / "go").touch()
    for build in builds:
        assert service.wait(build)["result"] == "SUCCESS", service.text(build)
        assert b"whole\n" in service.streams(build)["stdout"]


def test_a_kill_of_the_daemon_leaves_a_volume_that_the_next_one_uses(service, post, run):
    build = post(LOAD, f"docker run -d {BUSYBOX} sleep 600; touch here; sleep 600")
    until((service.data / "workspaces" / build / "here").exists, 60, "its container")
    service.docker.containers.get(f"sibling-{build}-docker").kill()
    service.client.post(f"/v1/builds/{build}/cancel")
    service.wait(build)
    assert run("docker ps -aq", f"docker run --rm {BUSYBOX} echo whole") == "whole\n"


def test_nothing_is_left_after_a_kill_of_the_service(service, post):
    build = post(LOAD, f"docker run -d {BUSYBOX} sleep 600; touch here; sleep 2")
    until((service.data / "workspaces" / build / "here").exists, 60, "its container")
    service.kill()
    service.docker.containers.get(f"sibling-{build}").wait()
    service.start()
    service.wait(build)
    assert_nothing_left(service)


def test_its_container_has_the_rights_that_it_needs_and_no_more(service, post):
    build = post("docker version; touch here; sleep 600")
    until((service.data / "workspaces" / build / "here").exists, 60, "its daemon")
    host = service.docker.containers.get(f"sibling-{build}-docker").attrs["HostConfig"]
    assert host["Privileged"] is False
    assert host["CapDrop"] == ["ALL"]
    assert not {"CAP_SYS_RAWIO", "CAP_SYS_MODULE", "CAP_DAC_READ_SEARCH", "CAP_SYS_BOOT"} & set(host["CapAdd"])
    assert (host["Devices"] or host["Binds"], host["PidMode"], host["IpcMode"]) == (None, "", "private")
    assert host["NetworkMode"].startswith("container:")
    assert host["Memory"] == 1024**3
    service.client.post(f"/v1/builds/{build}/cancel")
    service.wait(build)


def test_a_socket_that_becomes_a_link_leads_nowhere(service, post):
    """Whoever has the daemon is root in its container; a link there would be followed by the service, on the host."""
    build = post("docker version; touch here; until [ -e go ]; do sleep 0.1; done; docker version")
    until((service.data / "workspaces" / build / "here").exists, 60, "its daemon")
    host = service.docker.api.base_url
    socket = service.data / "daemons" / build / "docker.sock"
    socket.unlink()
    socket.symlink_to(host.removeprefix("http+docker://localhost") or "/var/run/docker.sock")
    (service.data / "workspaces" / build / "go").touch()
    assert service.wait(build)["result"] == "FAILURE"
    assert b"is none any more" in service.text(build)


def test_a_volume_that_grew_too_large_is_not_kept(service_with, clients, busybox):
    service = service_with(daemon__image=DIND, daemon__cache_size="1m")
    source = service.client.put("/v1/sources", content=tar_of({"busybox.tar": busybox})).json()
    ran = service.run(
        image=clients, docker="isolated", commands=[LOAD], source={"type": "uploaded", "id": source["id"]}
    )
    assert ran["result"] == "SUCCESS", service.text(ran["id"])
    assert_nothing_left(service)
    assert caches(service) == []


def test_a_daemon_that_has_too_much_on_the_disk_is_ended(service_with, clients, busybox):
    service = service_with(daemon__image=DIND, daemon__disk="1m", daemon__cache_size="1m")
    source = service.client.put("/v1/sources", content=tar_of({"busybox.tar": busybox})).json()
    ran = service.run(
        image=clients,
        docker="isolated",
        commands=[LOAD, "while docker info >/dev/null 2>&1; do sleep 1; done; docker info"],
        source={"type": "uploaded", "id": source["id"]},
    )
    text = service.text(ran["id"]).decode()
    assert "over daemon.disk; it is ended" in text
    assert "is gone" in text
    assert_nothing_left(service)
    assert caches(service) == []


@pytest.fixture
def network(docker_host):
    """A network of the test's own, whose gateway is an address of the host's that builds reach."""
    engine = docker.DockerClient(base_url=docker_host, version="1.45")
    options = {"com.docker.network.bridge.enable_icc": "false"}
    made = engine.networks.create(f"mirror-test-{secrets.token_hex(4)}", options=options)
    yield engine.networks.get(made.id)
    until(lambda: not engine.networks.get(made.id).containers, 30, "the end of its containers")
    made.remove()
    engine.close()


@pytest.mark.parametrize(("level", "ask"), [("isolated", "docker pull -q mirrored:1"), ("scoped", BUILD_ON_MIRRORED)])
def test_images_of_docker_io_come_through_the_mirror(service_with, clients, network, tmp_path, level, ask):
    folder = tmp_path / "registry"
    with Registry(folder) as registry:
        name = registry.reference("library/mirrored")
        subprocess.run(["docker", "tag", BUSYBOX, name], check=True)
        subprocess.run(["docker", "push", "-q", name], check=True)
        subprocess.run(["docker", "rmi", name], check=True)
    with Registry(folder, host=network.attrs["IPAM"]["Config"][0]["Gateway"]) as mirror:
        url = f"http://{mirror.address}"
        service = service_with(daemon__image=DIND, daemon__mirror=url, engine__network=network.name)
        ran = service.run(image=clients, docker=level, commands=[ask])
        assert ran["result"] == "SUCCESS", service.text(ran["id"])
        assert "/v2/library/mirrored/manifests/1" in mirror.logs
        assert_nothing_left(service)
        for volume in caches(service):
            volume.remove()


@pytest.fixture(scope="module")
def registry_image(docker_host):
    """An image like Docker's own `registry`."""
    context = tar_of(
        {
            "registry": Path(program()).read_bytes(),
            "config.json": b'{"version": 0.1, "storage": {"filesystem": {}}}',
            "Dockerfile": REGISTRY.encode(),
        }
    )
    build = ["docker", "build", "-q", "-t", "sibling-test/registry:1", "-"]
    subprocess.run(build, input=context, check=True, stdout=subprocess.PIPE)
    return "sibling-test/registry:1"


def remove_mirror(service):
    name = f"sibling-mirror-{(service.data / 'service-id').read_text()[:12]}"
    service.docker.containers.get(name).remove(force=True)
    service.docker.volumes.get(name).remove()


def test_the_service_keeps_what_came_from_the_registry(service_with, clients, registry_image, tmp_path):
    with Registry(tmp_path / "registry") as origin:
        name = origin.reference("library/mirrored")
        subprocess.run(["docker", "tag", BUSYBOX, name], check=True)
        subprocess.run(["docker", "push", "-q", name], check=True)
        subprocess.run(["docker", "rmi", name], check=True)
        service = service_with(
            daemon__image=DIND,
            daemon__volumes="0",
            daemon__mirror=f"http://{origin.address}",
            daemon__mirror_image=registry_image,
            daemon__mirror_port=str(free_port("127.0.0.1")),
        )
        pull = {"image": clients, "docker": "isolated", "commands": ["docker pull -q mirrored:1"]}
        first = service.run(**pull)
        assert first["result"] == "SUCCESS", service.text(first["id"])
    again = service.run(**pull)
    assert again["result"] == "SUCCESS", service.text(again["id"])
    assert_nothing_left(service)
    remove_mirror(service)


def test_a_mirror_that_does_not_start_is_told_and_done_without(service_with, clients):
    service = service_with(daemon__image=DIND, daemon__volumes="0", daemon__mirror_image=BUSYBOX)
    ran = service.run(image=clients, docker="isolated", commands=["docker info -f '{{.RegistryConfig.Mirrors}}'"])
    assert ran["result"] == "SUCCESS", service.text(ran["id"])
    assert service.streams(ran["id"])["stdout"] == b"[]\n"
    assert "images come straight from their registries: the registry mirror" in service.text(ran["id"]).decode()
    remove_mirror(service)


def test_a_service_without_an_image_for_daemons_says_so(service_with, clients):
    service = service_with()
    answer = service.client.post("/v1/builds", json={"image": clients, "commands": ["true"], "docker": "isolated"})
    assert (answer.status_code, answer.json()["rule"]) == (403, "daemon.image")


def test_a_daemon_that_does_not_start_is_told_with_its_last_words(service_with, clients):
    service = service_with(daemon__image=BUSYBOX)
    build = service.run(image=clients, docker="isolated", commands=["docker version"])
    assert build["result"] == "FAILURE"
    said = service.text(build["id"]).decode()
    assert "ended at once; its last words:" in said
    assert "dockerd: not found" in said
    assert_nothing_left(service)
