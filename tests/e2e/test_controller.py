"""The whole way on a simulated controller, and on a real one if SIBLING_TEST_JENKINS_URL, _USER and _TOKEN name it."""

import os
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import jenkins as python_jenkins
import pytest
import requests

from tests.conftest import BUSYBOX
from tests.e2e.harness import ServiceProcess, until
from tests.e2e.jenkins import BUSYBOX_LABEL, ControllerNetwork

ENDED = 120  # seconds that a job may take, on a controller that others use too
FREESTYLE = """<project><builders><hudson.tasks.Shell><command>{shell}</command></hudson.tasks.Shell></builders>
<assignedNode>{label}</assignedNode><canRoam>false</canRoam><quietPeriod>0</quietPeriod></project>"""
PIPELINE = """<flow-definition><definition class="org.jenkinsci.plugins.workflow.cps.CpsFlowDefinition">
<script>node('{label}') {{ sh '''{shell}''' }}</script><sandbox>true</sandbox></definition></flow-definition>"""
REAL = os.environ.get("SIBLING_TEST_JENKINS_URL")


@dataclass
class Given:
    """A controller, how agents reach it, and jobs that are removed afterwards."""

    url: str
    user: str
    token: str
    network: str | None

    def __post_init__(self):
        self.client = python_jenkins.Jenkins(self.url, self.user, self.token, timeout=30)
        self.prefix = f"sibling-test-{secrets.token_hex(4)}"
        self.jobs = []

    def job(self, config, label, shell):
        """A new job; its name."""
        name = f"{self.prefix}-{len(self.jobs)}"
        self.client.create_job(name, config.format(label=escape(label), shell=escape(shell)))
        self.jobs.append(name)
        return name

    def ended(self, name, seconds=ENDED):
        """The job's first build, once it has ended."""
        return until(lambda: self._ended(name), seconds, f"the end of {name}")

    def console(self, name):
        return self.client.get_build_console_output(name, 1)

    def ask(self, path):
        """JSON from below the controller's URL."""
        return requests.get(f"{self.url}{path}", auth=(self.user, self.token), timeout=30).json()

    def nodes(self):
        return {each["displayName"]: each for each in self.ask("computer/api/json")["computer"]}

    def has_pipelines(self):
        try:
            self.client.create_job(f"{self.prefix}-probe", PIPELINE.format(label="x", shell="true"))
            self.client.delete_job(f"{self.prefix}-probe")
        except python_jenkins.JenkinsException:
            return False
        return True

    def clean(self):
        for name in self.jobs:
            self.client.delete_job(name)

    def _ended(self, name):
        try:
            info = self.client.get_build_info(name, 1)
        except python_jenkins.JenkinsException:
            return None
        return info if not info["building"] else None


@pytest.fixture(scope="module", params=["simulated", *(["real"] if REAL else [])])
def given(request, docker_host):
    if request.param == "real":
        host = urlsplit(REAL).hostname
        network = "host" if host in {"localhost", "127.0.0.1", "::1"} else None
        url = REAL.rstrip("/") + "/"
        made = Given(url, os.environ["SIBLING_TEST_JENKINS_USER"], os.environ["SIBLING_TEST_JENKINS_TOKEN"], network)
        yield made
        made.clean()
    else:
        place = ControllerNetwork(docker_host)
        made = Given(place.simulator.url, place.simulator.user, place.simulator.token, place.name)
        yield made
        made.clean()
        place.close()


@pytest.fixture(scope="module")
def service(given, docker_host, java, tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    (folder / "token").write_text(given.token)
    network = {"jenkins__network": given.network} if given.network else {}
    process = ServiceProcess(
        folder,
        docker_host,
        jenkins__url=given.url,
        jenkins__user=given.user,
        jenkins__token_file=folder / "token",
        jenkins__java=java,
        jenkins__name=f"{given.prefix}-service",
        **network,
    ).start()
    until(lambda: process.client.get("/readyz").status_code == 200, 60, "readiness")
    yield process
    for build in process.client.get("/v1/builds", params={"limit": 200}).json()["builds"]:
        process.client.post(f"/v1/builds/{build['id']}/cancel")
    process.client.post("/v1/drain").raise_for_status()
    until(lambda: process.client.get("/v1/status").json()["slots"]["used"] == 0, 60, "the drain")
    process.stop()
    given.client.delete_node(f"{given.prefix}-service")
    process.destroy()


def agent_of(service, job):
    """The finished build of the agent that ran the first build of a job."""

    def look():
        builds = service.client.get("/v1/builds", params={"limit": 200}).json()["builds"]
        ours = [each for each in builds if each["agent"] and (each["agent"]["job"] or {}).get("name") == f"{job} #1"]
        return next((each for each in ours if each["state"] == "finished"), None)

    return until(look, 60, f"the end of the agent of {job}")


def test_all_permissions_are_there(service):
    assert service.client.get("/readyz").json()["ready"]


def test_the_registration_node_comes_online(service, given):
    until(
        lambda: not given.nodes().get(f"{given.prefix}-service", {"offline": True})["offline"],
        ENDED,
        "the registration node online",
    )


def test_a_freestyle_job_gets_an_agent_of_its_own(service, given):
    name = given.job(
        FREESTYLE, f"{BUSYBOX_LABEL},run={given.prefix}", "echo greetings from $(hostname); ls /opt/sibling"
    )
    given.client.build_job(name)
    info = given.ended(name)
    assert info["result"] == "SUCCESS", given.console(name)
    assert "greetings from" in given.console(name)
    ours = agent_of(service, name)
    assert (ours["result"], ours["image"]) == ("SUCCESS", BUSYBOX)
    assert info["builtOn"] == ours["agent"]["node"]
    until(lambda: ours["agent"]["node"] not in given.nodes(), 60, "the removal of the node")
    until(lambda: not [each for each in service.containers() if each.name == ours["agent"]["node"]], 60)


def test_a_job_that_fails_is_told_so(service, given):
    name = given.job(FREESTYLE, f"{BUSYBOX_LABEL},run={given.prefix}-f", "exit 3")
    given.client.build_job(name)
    assert given.ended(name)["result"] == "FAILURE"
    assert agent_of(service, name)["reason"] == "job"


def test_an_image_without_a_shell(service, given):
    name = given.job(FREESTYLE, f"image=sibling-test/static:1,run={given.prefix}-s", "echo shell from the toolkit")
    given.client.build_job(name)
    assert given.ended(name)["result"] == "SUCCESS", given.console(name)


def test_each_of_several_builds_has_its_own_agent(service, given):
    names = [given.job(FREESTYLE, f"{BUSYBOX_LABEL},run={given.prefix}-{number}", "sleep 1") for number in range(4)]
    for name in names:
        given.client.build_job(name)
    assert {given.ended(name)["result"] for name in names} == {"SUCCESS"}
    assert len({agent_of(service, name)["agent"]["node"] for name in names}) == 4


def test_a_pipeline_where_there_are_any(service, given):
    if not given.has_pipelines():
        return  # the workflow plugins are not installed there
    name = given.job(PIPELINE, f"{BUSYBOX_LABEL},run={given.prefix}-p", "echo piped > file; cat file")
    given.client.build_job(name)
    assert given.ended(name)["result"] == "SUCCESS", given.console(name)
    assert "piped" in given.console(name)
    assert agent_of(service, name)["result"] == "SUCCESS"


def test_aborting_a_job_ends_its_agent(service, given):
    name = given.job(FREESTYLE, f"{BUSYBOX_LABEL},run={given.prefix}-a", "echo begun; sleep 600")
    given.client.build_job(name)
    until(lambda: (given.client.get_job_info(name)["builds"] or None) and "begun" in given.console(name), ENDED)
    given.client.stop_build(name, 1)
    assert given.ended(name)["result"] == "ABORTED"
    assert agent_of(service, name)["result"] == "ABORTED"
