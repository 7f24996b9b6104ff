"""What people use Docker with, in a scoped build: compose, and Testcontainers with its Ryuk."""

import pytest

from tests.e2e import clients_image
from tests.e2e.harness import BUSYBOX
from tests.e2e.test_builds import tar_of
from tests.e2e.test_docker_access import assert_nothing_of_docker_is_left

pytestmark = pytest.mark.engine

COMPOSE = f"""\
services:
  db:
    image: {BUSYBOX}
    command: sh -c 'cp /site/* /data; exec httpd -f -p 8080 -h /data'
    volumes: ["./site:/site:ro", "data:/data"]
    ports: ["8080"]
    healthcheck:
      test: wget -q -O /dev/null http://127.0.0.1:8080/index.html
      interval: 200ms
      start_period: 5s
  app:
    image: {BUSYBOX}
    command: sleep 600
    depends_on:
      db: {{condition: service_healthy}}
    environment: {{LEVEL: "3"}}
volumes:
  data: {{}}
"""
STEPS = [
    "docker compose up --detach --wait",
    "docker compose exec -T app wget -qO- http://db:8080/index.html",
    "docker compose exec -T app sh -c 'echo $LEVEL'",
    "docker compose ps --services --status running | sort",
    "docker compose run --rm --no-deps app echo once",
    "python3 -c 'from urllib.request import *; print(urlopen(\"http://'$(docker compose port db 8080)'/\").status)'",
    "docker compose down --volumes --timeout 1",
    "docker ps -aq; docker volume ls -q",
]


@pytest.fixture
def run(service, clients):
    def run(commands, files):
        source = service.client.put("/v1/sources", content=tar_of(files)).json()
        build = service.run(
            image=clients, docker="scoped", commands=commands, source={"type": "uploaded", "id": source["id"]}
        )
        assert build["result"] == "SUCCESS", service.text(build["id"]).decode()
        return service.streams(build["id"])["stdout"].decode()

    yield run
    assert_nothing_of_docker_is_left(service)


def test_compose(run):
    out = run(STEPS, {"compose.yaml": COMPOSE.encode(), "site/index.html": b"hello\n"})
    assert out == "hello\n3\napp\ndb\nonce\n200\n"


INTEGRATION = f"""\
import urllib.request

import docker
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

SERVE = "sh -c 'echo hello >index.html; httpd -p 80; echo listening; sleep 600'"
with Network() as network:
    web = DockerContainer("{BUSYBOX}").with_command(SERVE).with_exposed_ports(80)
    web = web.with_network(network).with_network_aliases("web")
    with web.waiting_for(LogMessageWaitStrategy("listening")):
        url = f"http://{{web.get_container_host_ip()}}:{{web.get_exposed_port(80)}}/index.html"
        print(urllib.request.urlopen(url, timeout=10).read().decode().strip())
        other = DockerContainer("{BUSYBOX}").with_command("sleep 600").with_network(network)
        with other:
            print(other.exec("wget -qO- http://web/index.html").output.decode().strip())
print(sorted(each.name.partition("-ryuk")[1] for each in docker.from_env().containers.list()))
"""


@pytest.mark.parametrize("ryuk", [False, True])
def test_testcontainers(run, ryuk):
    commands = [
        f"export TESTCONTAINERS_RYUK_DISABLED={str(not ryuk).lower()} RYUK_CONTAINER_IMAGE={clients_image.RYUK}"
    ]
    commands += ["python3 test.py", 'until [ -z "$(docker ps -q)" ]; do sleep 0.1; done']
    assert run(commands, {"test.py": INTEGRATION.encode()}) == f"hello\nhello\n{['-ryuk'] if ryuk else []}\n"


def test_both_in_an_agent_of_jenkins(agents_with, jenkins, clients):
    service = agents_with(config='[grants.team]\njobs = ["team/*"]\ndocker = ["scoped"]\n')
    files = {"compose.yaml": COMPOSE, "test.py": INTEGRATION, "site/index.html": "hello\n"}
    steps = ["mkdir site", *(f"cat >{name} <<'END'\n{text}END" for name, text in files.items()), *STEPS]
    steps += [f"RYUK_CONTAINER_IMAGE={clients_image.RYUK} python3 test.py"]
    jenkins.add_pipeline("team/app", f"image={clients},docker=scoped", steps)
    build = jenkins.wait_ended(jenkins.build("team/app"), 120)
    assert build.result == "SUCCESS", build.console
    shown = build.console.splitlines()
    assert [shown.count(line) for line in ("hello", "once", "200", "['-ryuk']")] == [3, 1, 1, 1]
    service.assert_no_agent_left()
    assert_nothing_of_docker_is_left(service)
