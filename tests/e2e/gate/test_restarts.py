"""Restart policies, which the gate keeps in the engine's place: what a build sees of them, and what ends them."""

import json
import time

import pytest

from tests.e2e.gate.test_walks import PIPED
from tests.e2e.gate_process import cli
from tests.e2e.harness import BUSYBOX, until

pytestmark = pytest.mark.engine
# Each start adds a line to a file in the workspace; it ends well the third time.
THIRD_TIME = "echo start >>/w/starts; test $(wc -l </w/starts) -ge 3"
COMPOSE = f"""\
services:
  db:
    image: {BUSYBOX}
    command: sh -c 'sleep 1; exec httpd -f -p 80'
  app:
    image: {BUSYBOX}
    command: sh -c 'wget -q -O- http://db/ 2>&1 | grep -q 404 || exit 1; echo found; sleep 600'
    restart: on-failure
    depends_on: [db]
"""


@pytest.fixture
def starts(gate):
    file = gate.files / "starts"
    yield lambda: file.read_text().count("start") if file.exists() else 0
    file.unlink(missing_ok=True)


def run(gate, policy, script, *words):
    command = ["run", "-d", "--name", "box", "--restart", policy, "-v", "/workspace:/w", *words, BUSYBOX]
    return cli(gate, *command, "sh", "-c", script)


def facts(gate, name="box"):
    (found,) = json.loads(cli(gate, "inspect", name).stdout)
    return found


def over(gate):
    """What there is to know of the container once it is not started again; `docker wait` tells of each end."""
    return until(lambda: (found := facts(gate))["State"]["Status"] == "exited" and found, 30, "its last end")


def test_what_fails_is_started_again_until_it_does_not(gate, starts):
    run(gate, "on-failure:5", THIRD_TIME)
    shown = over(gate)
    assert shown["RestartCount"] == 2
    assert shown["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 5}
    assert (shown["State"]["Status"], shown["State"]["ExitCode"]) == ("exited", 0)
    assert starts() == 3


def test_it_is_not_more_often_than_was_asked_for(gate, starts):
    run(gate, "on-failure:2", "echo start >>/w/starts; exit 7")
    shown = over(gate)
    assert (shown["RestartCount"], shown["State"]["ExitCode"]) == (2, 7)
    cli(gate, "start", "box")
    assert over(gate)["RestartCount"] == 2
    assert starts() == 6


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
@pytest.mark.parametrize("end", [["stop", "-t", "0"], ["kill"], ["rm", "-f"]])
def test_what_always_runs_goes_on_until_the_build_ends_it(gate, starts, policy, end):
    run(gate, policy, "echo start >>/w/starts; [ $(wc -l </w/starts) = 1 ] || sleep 600")
    until(lambda: starts() == 2, 20, "its second start")
    cli(gate, *end, "box")
    if end[0] != "rm":
        cli(gate, "wait", "box")
    time.sleep(1)  # five times as long as it would wait
    assert starts() == 2
    assert cli(gate, "ps", "-q").stdout == b""


@pytest.mark.parametrize("end", [["stop"], ["kill"], ["rm", "-f"]])
def test_what_waits_for_its_next_start_is_seen_to_and_can_be_ended(gate, starts, end):
    run(gate, "always", "echo start >>/w/starts; exit 3")
    until(lambda: starts() >= 5, 30, "a long pause")
    until(lambda: facts(gate)["State"]["Restarting"], 20, "the pause")
    state = facts(gate)["State"]
    assert (state["Status"], state["Running"], state["ExitCode"]) == ("restarting", True, 3)
    for query in ([], ["-a"], ["--filter", "status=restarting"], ["--last", "1"]):
        (line,) = cli(gate, "ps", *query, "--format", "{{.State}} {{.Status}}").stdout.decode().splitlines()
        assert line.startswith("restarting Restarting (3) "), query
    assert cli(gate, "ps", "-aq", "--filter", "status=exited").stdout == b""
    cli(gate, "container", "prune", "-f")
    assert cli(gate, "ps", "-q").stdout
    began = starts()
    cli(gate, *end, "box")
    time.sleep(1)
    assert starts() - began <= 1  # it may have been about to start
    assert cli(gate, "ps", "-q").stdout == b""


def test_a_policy_changes_while_it_runs(gate, starts):
    run(gate, "no", "echo start >>/w/starts; until [ -e /w/end ]; do sleep 0.1; done; rm /w/end; exit 1")
    cli(gate, "update", "--restart", "on-failure:1", "box")
    (gate.files / "end").touch()
    until(lambda: starts() == 2, 20, "its second start")
    cli(gate, "update", "--restart", "no", "box")
    (gate.files / "end").touch()
    assert over(gate)["HostConfig"]["RestartPolicy"]["Name"] == "no"
    assert starts() == 2


def test_no_start_is_without_a_look(gate):
    run(gate, "always", PIPED.replace("sleep 900", "sleep 1"), "-u", "0")
    until(lambda: "/etc/passwd of the container is no file" in gate.log.read_text(), 30, "the refusal")
    over(gate)
    assert cli(gate, "rm", "box").stdout == b"box\n"


def test_the_engine_itself_starts_nothing_again(gate):
    run(gate, "always", "sleep 600")
    (found,) = gate.own()
    assert found["HostConfig"]["RestartPolicy"]["Name"] == "no"


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"Name": "on-failure", "MaximumRetryCount": -1}, "MaximumRetryCount"),
        ({"Name": "always", "MaximumRetryCount": 1}, "maximum retry count can only be used with 'on-failure'"),
        ({"Name": "sometimes"}, "RestartPolicy.Name"),
    ],
)
def test_what_is_no_policy_is_refused(gate, policy, words):
    status, said = gate.create("box", HostConfig={"RestartPolicy": policy})
    assert status == 403
    assert words in said["message"]


def test_what_removes_itself_has_no_policy(gate):
    words = ["--restart", "always", "--rm", BUSYBOX, "true"]
    assert b"onflicting options" in cli(gate, "run", *words, check=False).stderr  # by the client
    status, said = gate.create("box", HostConfig={"RestartPolicy": {"Name": "always"}, "AutoRemove": True})
    assert (status, said["message"]) == (400, "can't create 'AutoRemove' container with restart policy")
    cli(gate, "run", "-d", "--rm", "--name", "box", BUSYBOX, "sleep", "600")
    assert b"cannot be updated" in cli(gate, "update", "--restart", "always", "box", check=False).stderr


def test_compose_waits_for_what_fails_until_another_service_is_there(gate):
    (gate.files / "compose.yaml").write_text(COMPOSE)
    cli(gate, "compose", "up", "--detach", "--wait")
    until(lambda: b"found" in cli(gate, "compose", "logs", "app").stdout, 30, "the other service")
    assert facts(gate, "workspace-app-1")["RestartCount"] >= 1
    cli(gate, "compose", "down", "--timeout", "0")
    assert cli(gate, "ps", "-aq").stdout == b""


def test_nothing_is_left_of_what_is_started_again_and_again(gate_of):
    gate = gate_of("again").start()
    for number in range(3):
        cli(gate, "run", "-d", "--name", f"box-{number}", "--restart", "always", BUSYBOX, "true")
    until(lambda: all(facts(gate, f"box-{number}")["RestartCount"] >= 2 for number in range(3)), 30, "starts")
    assert gate.stop() == 0
    assert gate.own() == []
