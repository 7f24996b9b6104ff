"""Docker inside a build, on a real engine: what a build of each level can do, and that nothing of it is left."""

import pytest

from tests.e2e.harness import BUSYBOX, until

pytestmark = pytest.mark.engine


@pytest.fixture
def scoped(service, clients):
    """Runs a shell script in a build with a socket of its own."""

    def run(script, **request):
        return service.run(image=clients, commands=[script], docker="scoped", **request)

    yield run
    assert_nothing_of_docker_is_left(service)


def made_by_gates(service):
    """What there is of all builds of the service."""
    engine, found = service.docker, []
    for build in service.build_ids():
        filters = {"label": f"sibling.gate={build}"}
        found += engine.containers.list(all=True, filters=filters, ignore_removed=True)
        found += engine.networks.list(filters=filters)
        found += engine.volumes.list(filters=filters)
    return found


def assert_nothing_of_docker_is_left(service):
    service.assert_nothing_left()
    until(lambda: not made_by_gates(service), 30, "the removal of all that builds made")
    until(lambda: not list((service.data / "gates").iterdir()), 30, "the removal of all journals")


def test_a_build_without_a_level_has_no_socket(service):
    build = service.run(commands=["ls /var/run/docker.sock /run/sibling"])
    assert build["result"] == "FAILURE"
    assert b"docker.sock" not in service.streams(build["id"])["stdout"]


def test_a_scoped_build_runs_containers_on_its_own_files(service, scoped):
    build = scoped(
        f'id -u; echo mine >file; docker run --rm -v "$PWD":/src {BUSYBOX} cat /src/file; docker ps -aq | wc -l'
    )
    assert build["result"] == "SUCCESS", service.text(build["id"])
    assert service.streams(build["id"])["stdout"] == b"1000\nmine\n0\n"


def test_what_it_publishes_is_reached_from_the_build(service, scoped):
    serve = "printf hello >index.html; httpd -p 80; echo up; sleep 60"
    get = "import sys; from urllib.request import *; print(urlopen(sys.argv[1]).read().decode())"
    build = scoped(
        f"docker run -d --name web -p 80 {BUSYBOX} sh -c '{serve}' >/dev/null\n"
        "until docker logs web 2>&1 | grep -q up; do sleep 0.1; done\n"
        f"get() {{ python3 -c '{get}' $1; }}\n"
        "get http://$(docker port web 80)/; get http://web/"
    )
    assert build["result"] == "SUCCESS", service.text(build["id"])
    assert service.streams(build["id"])["stdout"] == b"hello\nhello\n"


def test_what_is_refused_is_in_the_log_and_in_the_metrics_by_its_rule(service, scoped):
    asked = (f"run --privileged {BUSYBOX} true", f"run -v /etc:/etc {BUSYBOX} true", "swarm init")
    build = scoped("\n".join(f"docker {each} || :" for each in asked))
    told = service.streams(build["id"])["sibling"].decode()
    assert "refuses this (field): HostConfig.Privileged" in told
    assert "refuses this (bind)" in told
    metrics = service.client.get("/metrics").text
    for rule in ("field", "bind", "route"):
        assert f'sibling_gate_refusals_total{{rule="{rule}"}}' in metrics
    assert 'sibling_docker_access_total{level="scoped"}' in metrics


def test_what_has_too_much_on_the_disk_ends(service_with, clients):
    service = service_with(docker__images=BUSYBOX, docker__disk="20m")
    fill = f"docker run {BUSYBOX} sh -c 'head -c 40000000 /dev/zero >/file; sleep 900'"
    build = service.run(image=clients, docker="scoped", commands=[f"{fill} || echo $?"])
    assert service.streams(build["id"])["stdout"] == b"137\n"
    assert "(limits.disk): the build has 400" in service.streams(build["id"])["sibling"].decode()
    assert 'sibling_gate_refusals_total{rule="limits.disk"} 1.0' in service.client.get("/metrics").text


def test_two_builds_at_once_do_not_see_each_other(service, clients):
    script = f"docker run -d --name {{}} {BUSYBOX} sleep 60 >/dev/null; echo ready; until [ -e go ]; do sleep 0.1; done"
    first, second = (
        service.post(image=clients, docker="scoped", commands=[script.format(name), "docker ps"])
        for name in ("one", "two")
    )
    until(lambda: all(b"ready" in service.text_now(build) for build in (first, second)), what="both containers")
    for build in (first, second):
        (service.data / "workspaces" / build / "go").touch()
    for build, own, other in ((first, b"one", b"two"), (second, b"two", b"one")):
        assert service.wait(build)["result"] == "SUCCESS"
        shown = service.streams(build)["stdout"]
        assert own in shown
        assert other not in shown
    assert_nothing_of_docker_is_left(service)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_it_goes_on_through_a_restart_of_the_service(service, clients, how):
    script = (
        f"docker run -d --restart always --name box {BUSYBOX} sleep 60 >/dev/null; echo ready\n"
        "until [ -e go ]; do sleep 0.1; done\n"
        "until docker version >/dev/null 2>&1; do sleep 0.1; done\n"  # the service listens before it is at its builds
        f"docker exec box echo alive; docker run --rm {BUSYBOX} echo another\n"
        "docker network inspect -f '{{.Name}}' bridge"
    )
    build = service.post(image=clients, docker="scoped", commands=[script])
    until(lambda: b"ready" in service.text_now(build), what="its container")
    getattr(service, how)()
    (kept,) = service.docker.containers.list(filters={"label": f"sibling.gate={build}"})
    kept.kill()  # it is started again by its policy
    service.start()
    until(lambda: kept.reload() or kept.status == "running", what="its next start")
    (service.data / "workspaces" / build / "go").touch()
    assert service.wait(build)["result"] == "SUCCESS", service.text(build)
    assert service.streams(build)["stdout"] == b"ready\nalive\nanother\nbridge\n"
    assert_nothing_of_docker_is_left(service)


def test_nothing_is_left_of_a_build_that_ended_while_the_service_was_dead(service, clients):
    script = (
        f"docker run -d {BUSYBOX} sleep 600; docker volume create data; docker network create net; echo ready; sleep 3"
    )
    build = service.post(image=clients, docker="scoped", commands=[script])
    until(lambda: b"ready" in service.text_now(build), what="what it makes")
    service.kill()
    service.docker.containers.get(f"sibling-{build}").wait()
    assert len(made_by_gates(service)) >= 4
    service.start()
    service.wait(build)
    assert_nothing_of_docker_is_left(service)


HOST = """\
[grants.trusted]
tokens = ["admin"]
docker = ["host"]
"""


def test_host_is_the_real_socket_where_a_grant_names_the_caller(service_with, clients):
    service = service_with(config=HOST)
    script = f"echo in | docker run -i --rm {BUSYBOX} cat; docker ps --format '{{{{.Names}}}}'"
    build = service.run(image=clients, docker="host", commands=[script])
    assert build["result"] == "SUCCESS", service.text(build["id"])
    read, *names = service.streams(build["id"])["stdout"].decode().split()
    assert read == "in"
    assert f"sibling-{build['id']}" in names
    assert service.text(build["id"]).startswith(b"[sibling] docker = host: ")
    assert service.build(build["id"])["request"]["docker"] == "host"
    assert 'sibling_docker_access_total{level="host"} 1.0' in service.client.get("/metrics").text


def test_a_level_that_no_grant_gives_is_refused_with_its_rule(service):
    answer = service.client.post("/v1/builds", json={"image": BUSYBOX, "commands": ["true"], "docker": "host"})
    assert (answer.status_code, answer.json()["rule"]) == (403, "grants")
    assert "docker = ['host']" in answer.json()["detail"]


GRANT = """\
[grants.team]
jobs = ["team-a/**"]
docker = ["scoped"]
[templates.docker]
image = "{image}"
docker = "scoped"
"""
STEP = f'echo mine >file; docker run --rm -v "$PWD":/src {BUSYBOX} cat /src/file'


def test_an_agent_of_a_granted_job_has_it_by_its_label(agents_with, jenkins, clients):
    service = agents_with(config=GRANT.format(image=clients))
    jenkins.add_pipeline("team-a/app", f"image={clients},docker=scoped", [STEP])
    build = jenkins.wait_ended(jenkins.build("team-a/app"), 120)
    assert build.result == "SUCCESS", build.console
    assert "mine" in build.console.splitlines()
    service.assert_no_agent_left()
    assert_nothing_of_docker_is_left(service)


def test_a_job_that_no_grant_names_gets_no_agent_with_it(agents_with, jenkins, clients):
    service = agents_with(config=GRANT.format(image=clients), jenkins__attempts=1)
    jenkins.add_freestyle("team-b/app", f"image={clients},docker=scoped", STEP)
    item = jenkins.build("team-b/app")
    agent = until(lambda: next(iter(service.agents("finished")), None), 60, "the refusal")
    assert (agent["result"], agent["reason"]) == ("NOT_BUILT", "policy")
    assert "the job team-b/app may not use docker = 'scoped'" in agent["message"]
    until(lambda: "cancelled a queue item" in service.log.read_text(), 60, "the item's end")
    jenkins.cancel(item)


def test_an_agent_that_a_job_without_a_grant_took_gives_it_nothing(agents_with, jenkins, clients):
    """Nothing ties an item to an agent: of two jobs with one label, either may take either agent."""
    service = agents_with(config=GRANT.format(image=clients))
    jenkins.add_freestyle("team-a/app", f"image={clients},docker=scoped", STEP)
    jenkins.add_freestyle("team-b/app", f"image={clients},docker=scoped", STEP)
    granted = jenkins.build("team-a/app")
    until(service.agents, 60, "its agent")
    jenkins.cancel(granted)
    build = jenkins.wait_ended(jenkins.build("team-b/app"), 120)
    assert build.result == "FAILURE"
    assert "(grants): the job team-b/app may not use docker" in build.console
    assert "mine" not in build.console.splitlines()


def test_a_template_gives_it_without_a_grant(agents_with, jenkins, clients):
    service = agents_with(config=GRANT.format(image=clients))
    jenkins.add_freestyle("anybody", "docker", STEP)
    build = jenkins.wait_ended(jenkins.build("anybody"), 120)
    assert build.result == "SUCCESS", build.console
    assert "mine" in build.console.splitlines()
    service.assert_no_agent_left()
