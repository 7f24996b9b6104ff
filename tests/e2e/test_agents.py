"""The controller's door, whole: a real engine, a real JVM in a real container, a simulated controller."""

import pytest

from tests.e2e.harness import until
from tests.e2e.jenkins import BUSYBOX_LABEL


class TestAnyImage:
    @pytest.mark.parametrize("image", ["busybox", "user", "entrypoint", "nopasswd", "static", "debian"])
    def test_a_freestyle_job_runs_in_it(self, agents, jenkins, image):
        name = f"free-{image}"
        jenkins.add_freestyle(name, f"image=sibling-test/{image}:1", "echo one; id -u; pwd; sleep 0.5")
        build = jenkins.wait_ended(jenkins.build(name))
        assert build.result == "SUCCESS", build.console
        assert f"/workspace/workspace/{name}" in build.console
        ours = agents.agent_of(f"{name} #1")
        assert (ours["result"], ours["image"]) == ("SUCCESS", f"sibling-test/{image}:1")
        assert ours["agent"]["job"]["url"].endswith(f"/job/{name}/1/")
        assert {"queued", "node", "create", "start", "connect", "run"} <= set(ours["phases"])
        agents.assert_no_agent_left()

    @pytest.mark.parametrize("image", ["busybox", "static"])
    def test_a_pipeline_does(self, agents, jenkins, image):
        name = f"pipe-{image}"
        jenkins.add_pipeline(name, f"image=sibling-test/{image}:1", ["echo built > result.txt", "cat result.txt"])
        build = jenkins.wait_ended(jenkins.build(name))
        assert build.result == "SUCCESS", build.console
        assert "built" in build.console
        agents.assert_no_agent_left()


def test_a_job_that_fails_is_told_on_the_agent(agents, jenkins):
    jenkins.add_freestyle("fails", BUSYBOX_LABEL, "exit 3")
    assert jenkins.wait_ended(jenkins.build("fails")).result == "FAILURE"
    ours = agents.agent_of("fails #1")
    assert (ours["result"], ours["reason"], ours["message"]) == ("FAILURE", "job", "fails #1: FAILURE")
    agents.assert_no_agent_left()


def test_a_label_that_nobody_serves_is_left_alone(agents, jenkins):
    jenkins.add_freestyle("elsewhere", "windows", "true")
    item = jenkins.build("elsewhere")
    jenkins.add_freestyle("here", BUSYBOX_LABEL, "true")
    assert jenkins.wait_ended(jenkins.build("here")).result == "SUCCESS"
    assert jenkins.why(item) == "There are no nodes with the label \u2018windows\u2019"
    jenkins.cancel(item)
    assert not [build for build in agents.agents() if "windows" in build["agent"]["labels"]]


def test_the_label_carries_wishes_and_routes_exactly(agents, jenkins):
    label = f"{BUSYBOX_LABEL},cpus=0.5,memory=300m,run=only-here"
    jenkins.add_freestyle(
        "wishes", label, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max || true"
    )
    build = jenkins.wait_ended(jenkins.build("wishes"))
    assert str(300 * 1024**2) in build.console
    ours = agents.agent_of("wishes #1")
    assert (ours["request"]["cpus"], ours["agent"]["labels"]) == (0.5, [label])


def test_an_expression_is_evaluated_as_jenkins_does(agents, jenkins):
    jenkins.add_freestyle("expression", f'("{BUSYBOX_LABEL}" || gpu) && !windows', "true")
    assert jenkins.wait_ended(jenkins.build("expression")).result == "SUCCESS"
    jenkins.add_pipeline("expression2", f"{BUSYBOX_LABEL}&&!windows", ["true"])
    assert jenkins.wait_ended(jenkins.build("expression2")).result == "SUCCESS"


def test_an_agent_takes_one_build_and_no_more(agents, jenkins):
    names = [f"one-{number}" for number in range(6)]
    for name in names:
        jenkins.add_freestyle(name, BUSYBOX_LABEL, "sleep 0.3")  # the least that a real controller takes for a build
    builds = [jenkins.wait_ended(item) for item in [jenkins.build(name) for name in names]]
    assert len({build.node for build in builds}) == len(names)
    assert "sibling_agent_second_builds_total 0.0" in agents.client.get("/metrics").text
    agents.assert_no_agent_left()


class TestSecrets:
    def test_the_nodes_secret_is_nowhere_to_be_seen(self, agents, jenkins):
        jenkins.add_freestyle(
            "secret", BUSYBOX_LABEL, "cat /proc/*/cmdline /proc/*/environ | tr '\\0' ' '; cat /tmp/.sibling-secret"
        )
        build = jenkins.wait_ended(jenkins.build("secret"))
        secret = build.console.split()[-3 if build.console.split()[-1] == "SUCCESS" else -1]
        ours = agents.agent_of("secret #1")
        assert build.console.count(secret) == 1, "in a command line or a variable"
        assert secret.encode() not in agents.text(ours["id"])
        assert secret not in agents.log.read_text()


def test_a_job_that_is_over_between_two_looks_is_found_all_the_same(agents_with, jenkins):
    service = agents_with(jenkins__poll=3).trained()
    jenkins.add_freestyle("team/blink", BUSYBOX_LABEL, "mkdir -p src/main; exit 3")
    assert jenkins.wait_ended(jenkins.build("team/blink"), 60).result == "FAILURE"
    (ours,) = until(lambda: service.agents("finished"), 60, "its end")
    assert (ours["result"], ours["reason"]) == ("FAILURE", "job")
    assert ours["agent"]["job"]["url"].endswith("/job/team/job/blink/1/")
