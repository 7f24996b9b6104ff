"""Crashes and outages on either side: nothing lost, nothing doubled, nothing left, and no hand needed."""

import signal

import pytest

from tests.e2e.harness import let_pass, until
from tests.e2e.jenkins import BUSYBOX_LABEL


def jobs(jenkins, prefix, count, shell, label=BUSYBOX_LABEL, kind="freestyle"):
    """Queue so many jobs; returns their items."""
    items = []
    for number in range(count):
        name = f"{prefix}-{number}"
        getattr(jenkins, f"add_{kind}")(name, label, shell)
        items.append(jenkins.build(name))
    return items


class TestKill:
    def test_agents_go_on_without_the_service_and_are_taken_up_again(self, agents_with, jenkins):
        service = agents_with(queue__slots=5)
        items = jobs(jenkins, "kill", 5, "echo begun; sleep 8; echo done")
        for item in items:
            jenkins.wait_output(item, "begun", 60)
        until(lambda: len([each for each in service.agents("running") if each["agent"]["job"]]) == 5, what="five jobs")
        service.kill()
        builds = [jenkins.wait_ended(item, 60) for item in items]
        assert [build.result for build in builds] == ["SUCCESS"] * 5
        service.start()
        ours = until(lambda: (done := service.agents("finished")) and len(done) == 5 and done, 40, "five ends")
        assert {build["result"] for build in ours} == {"SUCCESS"}
        assert {build["agent"]["job"]["name"] for build in ours} == {f"kill-{number} #1" for number in range(5)}
        service.assert_no_agent_left()

    @pytest.mark.parametrize("moment", [0.05, 0.2, 0.5, 0.9, 1.4])
    def test_at_any_moment_of_the_making(self, agents_with, jenkins, moment):
        service = agents_with(queue__slots=3, jenkins__idle_timeout=2)
        service.equipped()
        items = jobs(jenkins, f"moment{moment}", 3, "echo once")
        let_pass(moment)
        service.kill()
        service.start()
        assert [jenkins.wait_ended(item, 60).result for item in items] == ["SUCCESS"] * 3
        service.assert_no_agent_left()

    def test_the_nodes_of_a_service_that_is_gone_go_after_its_lease(self, agents_with, jenkins):
        gone = agents_with(jenkins__lease=60)
        (item,) = jobs(jenkins, "orphan", 1, "sleep 600")
        jenkins.wait_started(item)
        gone.kill()
        for container in gone.containers():
            container.remove(force=True)
        left = [name for name in jenkins.nodes if name.startswith("sibling-01")]
        assert left
        other = agents_with(jenkins__lease=60)
        until(lambda: not [n for n in left if n in jenkins.nodes], 90, "the removal of its nodes")
        assert other.node in jenkins.nodes


class TestController:
    def test_a_restart_in_mid_build(self, agents_with, jenkins):
        service = agents_with(jenkins__poll=0.1)
        (free,) = jobs(jenkins, "restart-free", 1, "echo begun; sleep 3; echo done")
        (pipe,) = jobs(jenkins, "restart-pipe", 1, "echo begun; sleep 6; echo done", kind="pipeline")
        for item in (free, pipe):
            jenkins.wait_output(item, "begun", 60)
        # What began between two looks is a build of nobody's after the restart.
        until(lambda: len([each for each in service.agents() if each["agent"]["job"]]) == 2, 60, "a look at both")
        jenkins.restart(refused=0.5, starting=0.5, unauthorized=0.3)
        assert jenkins.wait_ended(free, 60).result == "FAILURE"
        resumed = jenkins.wait_ended(pipe, 60)
        assert resumed.result == "SUCCESS", resumed.console
        assert service.agent_of("restart-pipe-0 #1")["result"] == "SUCCESS"
        assert service.agent_of("restart-free-0 #1")["result"] == "FAILURE"
        service.assert_no_agent_left()
        assert not service.checks()

    def test_an_outage_is_waited_for_and_told(self, agents_with, jenkins):
        service = agents_with()
        until(lambda: not service.checks(), 60, "readiness")
        jenkins.stop()
        reason = until(lambda: service.checks().get("jenkins"), what="the outage in /readyz")
        assert "no answer" in reason or "refused" in reason
        assert service.run(commands=["echo still here"])["result"] == "SUCCESS"
        jenkins.start()
        (item,) = jobs(jenkins, "after-outage", 1, "true")
        assert jenkins.wait_ended(item, 60).result == "SUCCESS"
        until(lambda: not service.checks(), 60, "readiness")

    def test_a_revoked_token_is_told_and_a_new_one_heals_it(self, agents_with, jenkins):
        token = jenkins.add_user("robot", jenkins_permissions())
        service = agents_with(user="robot", token=token)
        until(lambda: not service.checks(), 60, "readiness")
        jenkins.revoke_token("robot")
        until(lambda: "token of robot" in (service.checks().get("jenkins") or ""), what="the refusal in /readyz")
        jenkins.restore_token("11" + "ab" * 16, "robot")
        (service.folder / "jenkins-token").write_text("11" + "ab" * 16)
        until(lambda: not service.checks(), 60, "readiness")

    def test_a_missing_permission_is_named(self, agents_with, jenkins):
        token = jenkins.add_user("weak", jenkins_permissions() - {"Agent/Configure"})
        service = agents_with(user="weak", token=token)
        until(lambda: "Agent/Configure" in (service.checks().get("permissions") or ""), 60, "the permission in /readyz")

    @pytest.mark.parametrize(
        "fault",
        [
            {"status": 500, "body": "<html>Oops</html>"},
            {"status": 403, "body": "<html>Forbidden</html>"},
            {"status": 200, "body": "<html>Log in</html>"},
            {"drop": True},
        ],
    )
    def test_wrong_answers_delay_and_lose_nothing(self, agents, jenkins, fault):
        jenkins.faults.add("(GET|POST) /(queue|computer)", times=6, **fault)
        name = f"fault-{fault.get('status', 'drop')}"
        (item,) = jobs(jenkins, name, 1, "true")
        assert jenkins.wait_ended(item, 60).result == "SUCCESS"
        agents.assert_no_agent_left()

    def test_a_controller_that_takes_ten_seconds(self, agents, jenkins):
        (item,) = jobs(jenkins, "slow", 1, "echo begun; sleep 2")
        jenkins.wait_output(item, "begun", 60)
        jenkins.faults.add("GET /(queue|computer)/api", times=2, delay=10.0)
        assert jenkins.wait_ended(item, 60).result == "SUCCESS"
        assert agents.agent_of("slow-0 #1")["result"] == "SUCCESS"
        agents.assert_no_agent_left()

    def test_a_cut_connection_is_made_anew_and_a_pipeline_goes_on(self, agents, jenkins):
        (item,) = jobs(jenkins, "cut", 1, "echo begun; sleep 4; echo done", kind="pipeline")
        build = jenkins.wait_output(item, "begun", 60)
        jenkins.drop_websockets(build.node)
        assert jenkins.wait_ended(item, 60).result == "SUCCESS"
        agents.assert_no_agent_left()


class TestRegistration:
    def test_the_node_is_online_while_the_service_is_well(self, agents, jenkins):
        node = jenkins.nodes[agents.node]
        assert node.agent
        assert node.description.startswith("Sibling ")
        assert "slots" in node.description

    def test_a_job_aimed_at_it_finds_nothing_and_is_told(self, agents, jenkins):
        jenkins.add_freestyle("aimed", agents.node, "ls /workspace; sleep 600")
        build = jenkins.wait_ended(jenkins.build("aimed"), 40)
        assert build.result in {"FAILURE", "ABORTED"}
        assert "It runs no builds" in build.console

    def test_it_goes_offline_when_the_service_dies_and_comes_back(self, agents_with, jenkins):
        service = agents_with().trained()
        name = service.node
        service.kill()
        jenkins.wait_offline(name, 60)
        service.start()
        jenkins.wait_online(name, 60)

    def test_it_is_offline_during_a_drain_and_agents_without_a_build_go(self, agents_with, jenkins):
        config = '[templates.idle]\nimage = "sibling-test/busybox:1"\nmin_idle = 1\n'
        service = agents_with(config=config, queue__slots=3).trained()
        until(lambda: service.agents("connected"), 40, "a warm agent")
        (item,) = jobs(jenkins, "drained", 1, "echo begun; sleep 5")
        jenkins.wait_output(item, "begun", 60)
        service.client.post("/v1/drain").raise_for_status()
        until(lambda: not service.agents("connected"), 40, "the end of the warm agent")
        until(lambda: (m := jenkins.nodes[service.node].mark) and "draining" in m.reason, what="the node's reason")
        assert service.client.post("/v1/builds", json={"image": "x", "commands": ["x"]}).status_code == 503
        (late,) = jobs(jenkins, "late", 1, "true")
        assert jenkins.wait_ended(item).result == "SUCCESS"
        assert [each.id for each in jenkins.queue] == [late]
        service.client.delete("/v1/drain").raise_for_status()
        assert jenkins.wait_ended(late, 60).result == "SUCCESS"

    def test_term_waits_for_builds_and_leaves_no_node(self, agents_with, jenkins):
        service = agents_with(queue__drain=30).trained()
        (item,) = jobs(jenkins, "term", 1, "echo begun; sleep 4")
        jenkins.wait_output(item, "begun", 60)
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(40)
        assert jenkins.wait_ended(item, 5).result == "SUCCESS"
        assert not [name for name in jenkins.nodes if name.startswith("sibling-01")]
        assert not [each for each in service.containers() if each.labels["sibling.role"] == "agent"]


class TestMany:
    def test_thirty_at_once_for_three_labels_with_a_cap_of_four(self, agents_with, jenkins):
        config = "".join(
            f'[templates.t{number}]\nimage = "sibling-test/busybox:1"\ncap = 4\nmemory = "200m"\n'
            for number in range(3)
        )
        service = agents_with(config=config, queue__slots=12)
        # Longer than it takes to close a node to a second build, even with twelve agents starting on two cores.
        items = [item for number in range(3) for item in jobs(jenkins, f"many{number}", 10, "sleep 3", f"t{number}")]
        builds = [jenkins.wait_ended(item, 200) for item in items]
        assert {build.result for build in builds} == {"SUCCESS"}
        assert len({build.node for build in builds}) == 30
        spans = [
            (build["agent"]["template"], build["started_at"], build["finished_at"])
            for build in service.agents()
            if build["started_at"]
        ]
        for template in ("t0", "t1", "t2"):
            own = [(begin, end) for name, begin, end in spans if name == template and end]
            assert max(sum(1 for b, e in own if b <= begin < e) for begin, _ in own) <= 4
        service.assert_no_agent_left()

    def test_two_hundred_in_a_row_each_on_its_own_agent(self, agents_with, jenkins):
        service = agents_with(queue__slots=4).trained()
        items = [
            item
            for number in range(200)
            for item in jobs(jenkins, f"row{number}", 1, "true", f"{BUSYBOX_LABEL},memory=200m,run={number}")
        ]
        builds = [jenkins.wait_ended(item, 280) for item in items]
        assert {build.result for build in builds} == {"SUCCESS"}
        assert len({build.node for build in builds}) == 200
        service.assert_no_agent_left()

    def test_two_services_share_a_label(self, agents_with, jenkins):
        services = [agents_with(queue__slots=2, jenkins__idle_timeout=2) for _ in range(2)]
        for service in services:
            service.equipped()
        items = jobs(jenkins, "shared", 12, "sleep 0.5")
        builds = [jenkins.wait_ended(item, 100) for item in items]
        assert {build.result for build in builds} == {"SUCCESS"}
        made = [build for service in services for build in service.agents()]
        assert all(service.agents() for service in services), "both had their part"
        assert len(made) <= 12 + 6, "no double agent per item beyond a short race"
        for service in services:
            service.assert_no_agent_left()


def jenkins_permissions():
    return {
        "Overall/Read",
        "Agent/Create",
        "Agent/Connect",
        "Agent/Disconnect",
        "Agent/Configure",
        "Agent/Delete",
        "Job/Read",
        "Job/Cancel",
    }
