"""The simulated controller with agents: what they run, what they survive; and the controller elsewhere."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import requests

from tests.fakes.controller import AgentProcess, Simulator, Step

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sim():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def agent(sim, tmp_path):
    """Brings a node and starts an agent for it."""
    running = []

    def start(node, labels="", **how):
        if node not in sim.nodes:
            sim.add_node(node, labels, remote_fs=str(tmp_path / "work"))
        running.append(AgentProcess(sim, node, tmp_path, **how).__enter__())
        return running[-1]

    yield start
    for process in running:
        process.kill()


def test_an_agent_runs_builds_in_its_workspace(sim, agent):
    process = agent("n1", "lx")
    sim.wait_online("n1")
    assert "INFO: Connected" in process.log
    assert sorted(path.name for path in process.work.iterdir()) == ["remoting"]
    sim.add_freestyle("f/shell", "lx", "echo $NODE_NAME $NODE_LABELS $GREETING > said; cat said; exit 3")
    build = sim.wait_ended(sim.build("f/shell", parameters={"GREETING": "hi there"}))
    assert (build.result, build.node) == ("FAILURE", "n1")
    assert "+ cat said\nn1 lx n1 hi there\n+ exit 3\nBuild step 'Execute shell' marked" in build.console
    assert (process.work / "workspace/f/shell/said").read_text() == "n1 lx n1 hi there\n"


def test_an_empty_job_makes_its_workspace_and_an_empty_node_block_does_not(sim, agent):
    process = agent("n1", "lx")
    sim.add_pipeline("nothing", "lx")
    assert sim.wait_ended(sim.build("nothing")).result == "SUCCESS"
    assert not (process.work / "workspace").exists()
    sim.add_freestyle("empty", "lx")
    assert sim.wait_ended(sim.build("empty")).result == "SUCCESS"
    assert (process.work / "workspace/empty").is_dir()
    sim.add_pipeline("pipe", "lx", [Step("text\n", file="out.txt"), "cat out.txt"])
    assert "+ cat out.txt\ntext\n[Pipeline] }" in sim.wait_ended(sim.build("pipe")).console


def test_output_need_not_be_text_and_may_be_much(sim, agent):
    agent("n1", "lx")
    sim.add_freestyle("much", "lx", r"head -c 3000000 /dev/zero; printf '\377'")
    log = bytes(sim.wait_ended(sim.build("much")).log)
    assert log.count(b"\0") == 3000000
    assert b"\xff" in log


def test_wrong_secret_unknown_node_and_second_agent_all_fail_alike_and_try_again(sim, agent):
    sim.add_node("n1")
    wrong = agent("n1", secret="0" * 64, name="wrong")
    sim.wait_request("CONNECT /wsagents/n1", 2)
    agent("n1")
    sim.wait_online("n1")
    sim.forget_requests()
    second = agent("n1", name="second")
    sim.wait_request("CONNECT /wsagents/n1", 3)
    sim.delete_node("n1")
    sim.wait(lambda: any(request.status == 400 for request in sim.core.requests))
    for process in (wrong, second):
        assert "INFO: Failed to connect: Handshake error." in process.log
        assert "seconds before retry" in process.log
        assert process.process.poll() is None


def test_handshakes_can_be_made_to_fail(sim, agent):
    fault = sim.faults.add("CONNECT /wsagents/n1", times=2, status=502)
    agent("n1")
    sim.wait_online("n1")
    assert fault.hits == 2
    assert [request.status for request in sim.requests if request.method == "CONNECT"] == [502, 502, 101]


def test_jars_are_fetched_once_for_all_who_share_a_cache(sim, agent, tmp_path):
    sim.serve_jars(3)
    agent("n1")
    sim.wait_online("n1")
    jars = sim.core.jars
    assert sorted(sim.jar_fetches("n1")) == sorted(jars)
    for jar in jars.values():
        assert (tmp_path / "work/remoting/jarCache" / jar.cache_path).read_bytes() == jar.content
    agent("n2", name="other")
    sim.wait_online("n2")
    assert sim.jar_fetches("n2") == []


def test_a_lost_connection_fails_a_freestyle_build_and_a_pipeline_goes_on(sim, agent):
    agent("n1", "lx")
    sim.add_freestyle("free", "lx", "sleep 600")
    item = sim.build("free")
    sim.wait_output(item, "+ sleep 600")
    sim.drop_websockets("n1")
    assert sim.wait_ended(item).result == "FAILURE"
    sim.add_pipeline("pipe", "lx", ["echo begun; until [ -e go ]; do sleep 0.05; done; echo done", "echo next"])
    item = sim.build("pipe")
    build = sim.wait_output(item, "begun\n")
    sim.drop_websockets()
    sim.wait_output(item, "n1 seems to be removed or offline")
    Path(build.run.workspace, "go").touch()
    assert sim.wait_ended(item).result == "SUCCESS"
    assert build.console.count("+ echo done\ndone\n") == build.console.count("+ echo next\nnext\n") == 1


@pytest.mark.parametrize("kill", [False, True])
def test_over_a_restart_pipelines_go_on_and_freestyle_builds_are_lost(sim, agent, kill):
    agent("n1", "lx")
    agent("n2", "other", name="other")
    sim.add_pipeline("pipe", "lx", "until [ -e go ]; do sleep 0.05; done; echo done")
    sim.add_freestyle("free", "other", "sleep 600")
    pipe, free = sim.build("pipe"), sim.build("free")
    build, lost = sim.wait_output(pipe, "+ sleep"), sim.wait_started(free)
    queued = sim.build("free")
    sim.restart(kill=kill)
    sim.wait_output(pipe, "Ready to run at")
    Path(build.run.workspace, "go").touch()
    assert sim.wait_ended(pipe).result == "SUCCESS"
    if kill:
        assert lost not in sim.builds
        assert sim.queue == []
    else:
        assert lost.result == "FAILURE"
        assert sim.wait_started(queued).number == 2


def test_a_pipeline_whose_agent_began_anew_has_lost_its_step(sim, agent):
    first = agent("n1", "lx")
    sim.add_pipeline("pipe", "lx", "echo begun; until [ -e go ]; do sleep 0.05; done")
    item = sim.build("pipe")
    build = sim.wait_output(item, "begun\n")
    workspace = Path(build.run.workspace)
    first.kill()
    sim.wait_output(item, "will wait for 5 min 0 sec")
    agent("n1", name="again")
    assert sim.wait_ended(item).result == "FAILURE"
    (workspace / "go").touch()  # for what the first one left


def test_stopping_a_build_ends_all_of_its_processes(sim, agent):
    agent("n1", "lx")
    sim.add_freestyle("job", "lx", "sleep 600 & echo $$ $! > pids; echo begun; wait")
    item = sim.build("job")
    build = sim.wait_output(item, "begun\n")
    pids = Path(sim.nodes["n1"].remote_fs, "workspace/job/pids").read_text().split()
    sim.stop_build(build)
    assert sim.wait_ended(item).result == "ABORTED"
    assert build.console.endswith("Build was aborted\nAborted by admin\nFinished: ABORTED\n")
    assert not any(_runs(pid) for pid in pids)


def _runs(pid):
    """A zombie does not."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


def test_a_mark_lets_a_build_go_on_and_takes_no_other(sim):
    sim.add_node("n1", "a")
    sim.add_freestyle("job", "a", concurrent=True)
    agent = sim.hand_agent("n1")
    first = sim.wait_started(sim.build("job"))
    sim.mark("n1", "draining")
    second = sim.build("job")
    agent.finish()
    assert first.result == "SUCCESS"
    assert "is offline" in sim.why(second)
    sim.unmark("n1")
    assert sim.wait_started(second).started_at >= first.ended_at


def test_a_pipeline_wants_its_own_node_back_after_a_restart(sim):
    sim.add_node("n1", "a")
    sim.add_node("n2", "a")
    sim.add_pipeline("pipe", "a", "true")
    agents = {name: sim.hand_agent(name) for name in ("n1", "n2")}
    build = sim.wait_started(sim.build("pipe"))
    own, other = build.node, ({"n1", "n2"} - {build.node}).pop()
    sim.mark(own, "one build")
    sim.restart(kill=True, refused=0, starting=0)
    for agent in agents.values():
        agent.connect()
    (item,) = sim.queue
    assert sim.why(item.id).endswith("is offline")
    assert not sim.nodes[other].running
    sim.unmark(own)
    agents[own].finish()
    assert (build.result, build.node) == ("SUCCESS", own)


_ASKS_FROM_A_NAMESPACE = """
    import ctypes, fcntl, socket, struct, sys, urllib.request
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):
        sys.exit(77)
    with socket.socket() as link:  # bring loopback up
        fcntl.ioctl(link, 0x8914, struct.pack("16sh14x", b"lo", 1))
    print("ready", flush=True)
    input()
    print(urllib.request.urlopen("http://127.0.0.1:8080/login").status)
"""


def test_it_listens_in_another_network_namespace():
    command = [sys.executable, "-c", textwrap.dedent(_ASKS_FROM_A_NAMESPACE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as inside:
        if inside.stdout.readline() != "ready\n":
            pytest.skip("no right to make a network namespace")
        with Simulator(netns_pid=inside.pid, public_url="http://controller:8080/") as sim:
            assert sim.url == "http://controller:8080/"
            assert inside.communicate("\n", timeout=20)[0] == "200\n"


def test_it_runs_alone():
    command = [sys.executable, "-m", "tests.fakes.controller", "--token", "secret"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as alone:
        url = alone.stdout.readline().strip()
        auth = ("admin", "secret")
        assert requests.post(f"{url}job/hello/build", auth=auth, timeout=20).status_code == 201
        items = requests.get(f"{url}queue/api/json", auth=auth, timeout=20).json()["items"]
        assert [item["task"]["name"] for item in items] == ["hello"]
        os.kill(alone.pid, signal.SIGTERM)
    assert alone.returncode == 0
