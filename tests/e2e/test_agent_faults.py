"""Agents that cannot be had, that die, that nobody needs any more: told where people look, and nothing left."""

import pytest

from tests.e2e.harness import until
from tests.e2e.jenkins import BUSYBOX_LABEL


def shown(jenkins, label):
    """The node of this label that says why its agent failed."""
    return until(
        lambda: next(
            (
                node
                for node in jenkins.nodes.values()
                if label in node.labels
                and node.mark
                and node.mark.reason.startswith("Sibling: ")
                and not node.agent
                and "no more" not in node.mark.reason
            ),
            None,
        ),
        what="a node that tells",
    )


class TestCannotBeHad:
    @pytest.mark.parametrize(
        ("label", "words"),
        [
            ("image=forbidden/image:1", "builds.allowed_images|not allowed"),
            ("image=sibling-test/missing:1", "sibling-test/missing:1"),
            ("image=sibling-test/busybox:1,disk=3", "disk"),
            ("image=sibling-test/busybox:1,memory=900g", "memory"),
        ],
    )
    def test_the_user_learns_why_on_the_node_and_the_item_is_cancelled_in_the_end(
        self, agents_with, jenkins, label, words
    ):
        service = agents_with(builds__allowed_images="docker.io/sibling-test/*", jenkins__attempts=2)
        jenkins.add_freestyle("wish", label, "true")
        item = jenkins.build("wish")
        node = shown(jenkins, label)
        jenkins.wait(lambda: "It failed: " in node.description, what="the failure in the description")
        reason = node.mark.reason
        assert any(word in reason for word in words.split("|")), reason
        jenkins.wait(lambda: not [each for each in jenkins.queue if each.id == item], 40, "the item cancelled")
        failed = [build for build in service.agents() if build["agent"]["labels"] == [label]]
        assert [build["result"] for build in failed] == ["NOT_BUILT"] * 2
        assert all(any(word in build["message"] for word in words.split("|")) for build in failed)
        assert "its agent cannot be had" in service.log.read_text()
        assert "sibling_cancelled_items_total 1.0" in service.client.get("/metrics").text
        assert len([node for node in jenkins.nodes.values() if label in node.labels]) <= 2

    def test_an_agent_that_cannot_reach_the_controller_says_so(self, agents_with, jenkins):
        service = agents_with(jenkins__agent_url="http://127.0.0.1:9/", jenkins__connect_timeout=3, jenkins__attempts=1)
        jenkins.add_freestyle("unreachable", BUSYBOX_LABEL, "true")
        jenkins.build("unreachable")
        reason = shown(jenkins, BUSYBOX_LABEL).mark.reason
        assert "did not connect to http://127.0.0.1:9/ within 3 s" in reason
        (build,) = until(lambda: service.agents("finished"), what="its end")
        assert (build["result"], build["reason"]) == ("NOT_BUILT", "connection")


class TestDeath:
    @pytest.mark.parametrize("kind", ["freestyle", "pipeline"])
    def test_out_of_memory_is_told_and_the_build_ends(self, agents, jenkins, kind):
        name, label = f"hungry-{kind}", f"{BUSYBOX_LABEL},memory=200m,run={kind}"
        getattr(jenkins, f"add_{kind}")(
            name,
            label,
            "for p in /proc/[0-9]*; do echo 1000 > $p/oom_score_adj; done; "
            "kill -9 $(ps -o pid,comm | awk '/java|ld.so/ {print $1}')",
        )
        item = jenkins.build(name)
        build = jenkins.wait_ended(item, 40)
        assert build.result in {"FAILURE", "ABORTED"}
        reason = shown(jenkins, label).mark.reason
        assert "the agent died during its build" in reason
        assert "exit code 137" in reason
        assert "MiB of memory at most" in reason or "Its last words" in reason
        (ours,) = until(
            lambda: [each for each in agents.agents("finished") if each["agent"]["labels"] == [label]], what="its end"
        )
        assert (ours["result"], ours["agent"]["job"]["name"]) == ("FAILURE", f"{name} #1")

    def test_a_container_that_somebody_removes(self, agents, jenkins):
        label = f"{BUSYBOX_LABEL},run=removed"
        jenkins.add_pipeline("removed", label, ["sleep 600"])
        item = jenkins.build("removed")
        started = jenkins.wait_started(item)
        agents.docker.containers.get(started.node).remove(force=True)
        assert jenkins.wait_ended(item).result == "ABORTED"
        assert shown(jenkins, label)


class TestStops:
    def test_cancelling_the_agent_aborts_its_job(self, agents, jenkins):
        jenkins.add_freestyle("cancelled", f"{BUSYBOX_LABEL},run=c", "echo begun; sleep 600")
        item = jenkins.build("cancelled")
        jenkins.wait_output(item, "begun")
        (build,) = [each for each in until(lambda: agents.agents("running")) if "run=c" in each["agent"]["labels"][0]]
        agents.client.post(f"/v1/builds/{build['id']}/cancel").raise_for_status()
        assert jenkins.wait_ended(item).result == "ABORTED"
        ended = agents.wait(build["id"])
        assert (ended["result"], ended["reason"]) == ("ABORTED", "cancelled")
        agents.assert_no_agent_left()

    def test_aborting_the_job_ends_the_agent(self, agents, jenkins):
        jenkins.add_freestyle("aborted", f"{BUSYBOX_LABEL},run=d", "echo begun; sleep 600")
        item = jenkins.build("aborted")
        jenkins.stop_build(jenkins.wait_output(item, "begun"))
        assert jenkins.wait_ended(item).result == "ABORTED"
        assert agents.agent_of("aborted #1")["result"] == "ABORTED"
        agents.assert_no_agent_left()

    def test_a_job_is_stopped_at_its_templates_timeout(self, agents_with, jenkins):
        service = agents_with(config='[templates.short]\nimage = "sibling-test/busybox:1"\ntimeout = 2\n')
        jenkins.add_freestyle("long", "short", "sleep 600")
        assert jenkins.wait_ended(jenkins.build("long"), 40).result == "ABORTED"
        assert service.agent_of("long #1")["reason"] == "timeout"

    def test_a_node_that_somebody_deletes_ends_the_agent(self, agents, jenkins):
        jenkins.add_freestyle("deleted", f"{BUSYBOX_LABEL},run=e", "echo begun; sleep 600")
        item = jenkins.build("deleted")
        jenkins.delete_node(jenkins.wait_output(item, "begun").node)
        assert jenkins.wait_ended(item).result == "FAILURE"
        agents.assert_no_agent_left()


class TestNotNeeded:
    def test_an_agent_whose_item_is_gone_goes_too(self, agents_with, jenkins):
        service = agents_with(jenkins__idle_timeout=1)
        jenkins.add_freestyle("gone", BUSYBOX_LABEL, "true")
        item = jenkins.build("gone")
        until(service.agents, what="an agent")
        jenkins.cancel(item)
        (build,) = until(lambda: service.agents("finished"), 60, "its end")
        assert (build["result"], build["reason"]) == ("ABORTED", "unused") or build["reason"] == "cancelled"
        service.assert_no_agent_left()

    def test_warm_agents_are_kept_ready_and_made_anew(self, agents_with, jenkins):
        service = agents_with(
            config='[templates.warm]\nimage = "sibling-test/busybox:1"\nmin_idle = 1\n', jenkins__idle_timeout=1
        ).trained()
        (first,) = until(lambda: service.agents("connected"), 40, "a warm agent")
        jenkins.add_freestyle("warm", "warm", "true")
        build = jenkins.wait_ended(jenkins.build("warm"))
        assert build.node == first["agent"]["node"]
        # The first one may still be seen as connected for a moment.
        until(lambda: {each["id"] for each in service.agents("connected")} - {first["id"]}, 40, "another warm agent")


class TestTemplates:
    def test_limits_env_and_caches_are_the_templates(self, agents_with, jenkins):
        agents_with(
            config="""
[templates.base]
image = "sibling-test/busybox:1"
labels = []
env = { GREETING = "hello" }
caches = { shared = "/var/cache/shared" }

[templates.small]
inherits = "base"
labels = ["linux", "small"]
user = "builder"
memory = "300m"
cap = 1
"""
        )
        for number in (1, 2):
            jenkins.add_freestyle(
                f"template-{number}",
                "linux&&small",
                "echo $GREETING; id -un; date >> /var/cache/shared/log; wc -l < /var/cache/shared/log",
            )
        items = [jenkins.build(f"template-{number}") for number in (1, 2)]
        consoles = [jenkins.wait_ended(item, 60).console for item in items]
        assert all("hello\n" in console and "builder\n" in console for console in consoles)
        assert "2\n" in consoles[0] + consoles[1], "both wrote into the same cache"
