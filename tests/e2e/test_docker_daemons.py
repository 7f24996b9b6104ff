"""A whole Docker daemon for one build (docker = "isolated"), on a real engine."""

import subprocess

import pytest

from tests.e2e.harness import BUSYBOX, until
from tests.e2e.test_builds import tar_of

pytestmark = pytest.mark.engine
DIND = "sibling-test/dind:1"
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
