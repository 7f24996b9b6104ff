"""The service in a container of its own image, with what compose.yaml gives it, and builds through it."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import docker
import httpx2
import pytest
import yaml

from tests.e2e.harness import BUSYBOX, until
from tests.e2e.test_builds import tar_of

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]  # the first one builds the image, if there is none yet

ROOT = Path(__file__).parents[2]
IMAGE = "sibling-test/service:1"
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
COMPOSE = SERVICES["sibling"]
SOCKET = "/var/run/docker.sock"
DATA = "/var/lib/sibling"
CAPABILITIES = 1 << 0 | 1 << 1 | 1 << 3  # CHOWN, DAC_OVERRIDE and FOWNER by their numbers in capability(7)


class ServiceContainer:
    """The service in a container with the engine's socket, and the volume and network that it works with."""

    def __init__(self, docker_host: str) -> None:
        self.name = f"sibling-test-{secrets.token_hex(4)}"
        self.docker = docker.DockerClient(base_url=docker_host, version="1.45")
        self.container = self.docker.containers.create(
            IMAGE,
            name=self.name,
            init=COMPOSE["init"],
            read_only=COMPOSE["read_only"],
            tmpfs=dict.fromkeys(COMPOSE["tmpfs"], ""),
            cap_drop=COMPOSE["cap_drop"],
            cap_add=COMPOSE["cap_add"],
            ports={"8700/tcp": ("127.0.0.1", None)},
            volumes={
                docker_host.removeprefix("unix://"): {"bind": SOCKET},
                self.name: {"bind": DATA},
            },
            environment={"SIBLING_ENGINE__NETWORK": self.name, "SIBLING_QUEUE__MIN_FREE_DISK": "1m"},
        )
        self.client = httpx2.Client()
        self.container.start()
        self.token = self.execute("sibling", "token", "create", "test", "--scope", "admin").strip()
        self.connect()
        self.id = self.execute("cat", f"{DATA}/service-id").strip()

    def connect(self) -> None:
        """Wait until it answers, at the port that the engine gave it at its last start."""
        until(lambda: self.health() == "healthy", what="the health check")
        self.client.close()
        (binding,) = self.container.attrs["NetworkSettings"]["Ports"]["8700/tcp"]
        self.url = f"http://127.0.0.1:{binding['HostPort']}"
        self.client = httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=60, trust_env=False
        )

    def health(self) -> str:
        self.container.reload()
        return str(self.container.attrs["State"]["Health"]["Status"])

    def execute(self, *command: str, user: str = "") -> str:
        """Run a program beside the service; its output."""
        code, output = self.container.exec_run(command, user=user)
        assert code == 0, output
        return output.decode()

    def process(self) -> dict[str, str]:
        """/proc/PID/status of the service, as the host sees it."""
        top = self.container.top()
        row = next(row for row in top["Processes"] if "bin/python" in row[-1])
        status = Path("/proc", row[top["Titles"].index("PID")], "status").read_text()
        return dict(line.split(":\t", 1) for line in status.splitlines())

    def post(self, **request: object) -> str:
        answer = self.client.post("/v1/builds", json={"image": BUSYBOX, **request})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def wait(self, build_id: str) -> dict:
        build = self.client.get(f"/v1/builds/{build_id}", params={"wait": "60s"}).raise_for_status().json()
        assert build["state"] == "finished", build
        return build

    def text(self, build_id: str) -> bytes:
        return self.client.get(f"/v1/builds/{build_id}/log").raise_for_status().content

    def builds(self) -> list:
        """The containers of its builds; a cell, in which image builds run, is its own."""
        return self._containers("sibling.build")

    def _containers(self, *labels: str) -> list:
        filters = {"label": [f"sibling.service={self.id}", *labels]}
        return self.docker.containers.list(all=True, ignore_removed=True, filters=filters)

    def assert_nothing_left(self) -> None:
        until(lambda: not self.builds(), what="the removal of all containers")
        until(lambda: not self.execute("ls", f"{DATA}/workspaces"), what="the removal of all workspaces")

    def destroy(self) -> None:
        self.client.close()
        self.container.remove(force=True, v=True)
        for container in self._containers():
            container.remove(force=True, v=True)
        self.docker.networks.get(self.name).remove()
        self.docker.volumes.get(self.name).remove()
        self.docker.close()


@pytest.fixture(scope="module")
def running(docker_host):
    environment = {name: value for name, value in os.environ.items() if name != "BASE"}
    made = subprocess.run([ROOT / "scripts/image", IMAGE], env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-4000:]
    service = ServiceContainer(docker_host)
    yield service
    service.destroy()


@pytest.fixture
def service(running, request):
    yield running
    if request.node.report_call.failed:
        print(running.container.logs(tail=100).decode())


@pytest.mark.parametrize("user", ["0", "1000", "4711:42"])
def test_a_build_of_any_user_has_its_source_and_secret_and_leaves_artifacts(service, user):
    secret = secrets.token_hex()
    source = service.client.put("/v1/sources", content=tar_of({"make.sh": b'mkdir out; printf %s "$WORD" >out/word\n'}))
    build_id = service.post(
        user=user,
        source={"type": "uploaded", "id": source.raise_for_status().json()["id"]},
        secrets={"WORD": secret},
        commands=['echo "the word is $WORD"', "id -u", "./make.sh", "chmod 500 out", "chmod 0 out/word", "chmod 0 ."],
        artifacts=["out/**"],
    )
    build = service.wait(build_id)
    log = service.text(build_id)
    assert build["result"] == "SUCCESS", log
    assert log == f"the word is ****\n{user.partition(':')[0]}\n".encode()
    assert service.client.get(f"/v1/builds/{build_id}/artifacts/out/word").text == secret
    assert secret not in service.container.logs().decode()
    service.assert_nothing_left()


@pytest.mark.parametrize("user", ["0", "4711:42"])
def test_a_build_of_any_user_builds_an_image_of_files_that_only_it_may_read(service, user):
    name = f"private-{secrets.token_hex(4)}"
    dockerfile = f"FROM {BUSYBOX}\nCOPY mine /mine\nRUN cat /mine\n"
    build_id = service.post(
        user=user,
        env={"DOCKERFILE": dockerfile},
        commands=[
            f'umask 077; mkdir ctx; echo {name} >ctx/mine; printf %s "$DOCKERFILE" >ctx/Dockerfile',
            f"sibling image build -t {name} ctx && sibling run --image {name} -- cat /mine",
        ],
    )
    build = service.wait(build_id)
    assert build["result"] == "SUCCESS", service.text(build_id)
    assert service.text(build_id).decode().splitlines().count(name) >= 1
    service.assert_nothing_left()


def test_a_scoped_build_runs_containers_on_files_that_only_it_may_read(service, clients):
    command = f'umask 077; echo mine >file; docker run --rm -v "$PWD":/src {BUSYBOX} cat /src/file'
    build_id = service.post(image=clients, docker="scoped", commands=[command])
    build = service.wait(build_id)
    assert build["result"] == "SUCCESS", service.text(build_id)
    assert b"mine" in service.text(build_id).splitlines()
    service.assert_nothing_left()
    left = {"label": f"sibling.gate={build_id}"}
    until(lambda: not service.docker.containers.list(all=True, filters=left), what="the removal of what it made")


def test_a_restart_of_the_service_leaves_its_builds_running_and_their_logs_whole(service):
    build_id = service.post(commands=["echo before", "until [ -e /tmp/go ]; do sleep 0.1; done", "echo after"])
    until(lambda: service.text(build_id))
    service.container.restart()
    service.connect()
    (container,) = service.builds()
    assert container.exec_run(["touch", "/tmp/go"]).exit_code == 0
    assert service.wait(build_id)["result"] == "SUCCESS"
    assert service.text(build_id) == b"before\nafter\n"
    service.assert_nothing_left()


def test_it_is_not_root_and_has_three_capabilities_and_no_more(service):
    status = service.process()
    assert set(status["Uid"].split()) == {"10001"}
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {CAPABILITIES}
    assert {int(status[name], 16) for name in ("CapInh", "CapAmb")} == {0}, "programs that it starts, git, get none"


def test_not_even_root_can_write_to_its_root_file_system(service):
    refused = service.container.exec_run(["touch", "/opt/sibling-service/x"], user="0")
    assert (refused.exit_code, b"Read-only file system" in refused.output) == (1, True)


def test_its_doctor_finds_all_that_builds_need(service):
    assert "FAIL" not in service.execute("sibling", "doctor")


def test_it_answers_nobody_without_a_token(service):
    assert httpx2.get(f"{service.url}/healthz", trust_env=False).json() == {"status": "ok"}
    assert httpx2.get(f"{service.url}/v1/builds", trust_env=False).status_code == 401


def test_the_agents_java_is_installed_from_it_without_being_root(service):
    program = f"""
from pathlib import Path
from agent import busybox, toolkit
from agent.toolkit import agents, java
from api.client_zipapp import zipapp
data = Path({DATA!r})
base = toolkit.install(data, busybox.find_static_busybox(), zipapp())
print(agents.install_agent(data, base, java.find_java(None), b"a jar"))
"""
    kit = f"{DATA}/{service.execute('python', '-c', program).strip()}"
    java = [f"{kit}/lib/ld.so", "--inhibit-cache", "--library-path", f"{kit}/lib", f"{kit}/jre/bin/java"]
    assert "OpenJDK" in service.execute(*java, "-Xshare:on", "--version")
    assert service.execute("stat", "-c", "%u %a", kit, f"{kit}/agent.jar").split() == ["10001", "755", "10001", "644"]


def test_the_client_that_it_hands_out_runs_elsewhere(service, tmp_path):
    client = tmp_path / "sibling"
    client.write_bytes(service.client.get("/cli/sibling").raise_for_status().content)
    listed = subprocess.run(
        [sys.executable, "-I", client, "ps", "--json"],
        env={"SIBLING_URL": service.url, "SIBLING_TOKEN": service.token},
        capture_output=True,
        check=True,
    )
    assert isinstance(json.loads(listed.stdout), (dict, list))


def test_the_packages_in_it_are_ours_and_the_tests_stayed_out(service):
    names = "from importlib.metadata import packages_distributions as p; import json; print(json.dumps(p()))"
    distributions = json.loads(service.execute("python", "-c", names))
    assert distributions["agent"] == distributions["api"] == ["sibling-agent"]
    # No word of setuptools, which python-jenkins asks for.
    assert not {"tests", "bench", "pip", "pytest", "hatchling"} & set(distributions)


def test_no_compiler_cache_or_package_list_is_in_it(service):
    search = (
        "find / -xdev '(' -path '*/bin/*gcc*' -o -path '*/bin/cc' -o -name '*.whl' -o -path '*/.cache/*' "
        "-o -path '/var/lib/apt/lists/*' -o -path '*/apt/archives/*.deb' -o -path '/source/*' ')' -print"
    )
    assert service.execute("sh", "-c", search, user="0").split() == []


def test_compose_gives_the_socket_and_the_data_to_the_service_alone_and_shows_nothing_to_other_machines():
    assert COMPOSE["volumes"] == [f"{SOCKET}:{SOCKET}", f"sibling-data:{DATA}"]
    others = [volume for name, each in SERVICES.items() if name != "sibling" for volume in each.get("volumes", [])]
    assert not [volume for volume in others if "docker" in volume or volume.startswith("sibling-data")]
    assert {port.partition(":")[0] for each in SERVICES.values() for port in each["ports"]} == {"127.0.0.1"}
