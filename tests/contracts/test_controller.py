"""What every `Controller` promises, held for the simulated one and for a real one by the same tests.

A real one takes part if SIBLING_TEST_JENKINS_URL, _USER and _TOKEN name it. Nothing runs there: nodes stay offline, and
all that the tests make has a prefix of its own and is deleted.
"""

import asyncio
import os
import socket
import time

import jenkins
import pytest

from agent.errors import ControllerError, ControllerRefused, ControllerUnavailable, NodeExists, NodeNotFound
from agent.jenkins_controller import JenkinsController
from agent.labels import parse, parse_assigned
from agent.waiting import Wanted, wanted
from tests.contracts.controller_subject import PIPELINE, Subject
from tests.fakes.controller import Simulator

pytestmark = pytest.mark.anyio

REAL = [os.environ.get(f"SIBLING_TEST_JENKINS_{name}", "") for name in ("URL", "USER", "TOKEN")]


@pytest.fixture(scope="module")
def simulator():
    with Simulator() as simulator:
        simulator.core.agent_jar = lambda: b"PK\3\4"  # so that these tests need no Java
        yield simulator


@pytest.fixture(params=["simulator", "real"] if all(REAL) else ["simulator"])
async def subject(request):
    if request.param == "real":
        subject = Subject(*REAL)
    else:
        simulator = request.getfixturevalue("simulator")
        subject = Subject(simulator.url, *simulator.auth)
    yield subject
    await subject.clean()


async def test_it_says_what_it_is(subject):
    info = await subject.controller.info()
    assert info.version[0].isdigit()
    assert info.session
    assert info.quieting_down is False
    assert info == await subject.controller.info()


async def test_the_nodes_are_listed_with_the_built_in_one(subject):
    name = await subject.node("one", "two", description='Für <b>uns</b> & "alle"')
    node = await subject.computer(name)
    assert node.labels == {name, "one", "two"}
    assert node.description == 'Für <b>uns</b> & "alle"'
    assert (node.offline, node.marked_offline, node.reason, node.idle, node.executables) == (True, False, "", True, ())
    assert any(
        "built-in" in computer.labels or "master" in computer.labels
        for computer in await subject.controller.computers()
    )


@pytest.mark.parametrize(
    "label",
    [
        "image=registry.example:5000/team/maven:3-eclipse-temurin-21,cpus=2,memory=4g,run=7",
        "image=a@sha256:" + "a" * 64,
        *("with space", 'quo"te', "it's", "back\\slash", "a&&b", "!a", "(a)", "a->b", "ümläut", "tab\tbed"),
    ],
)
async def test_a_nodes_labels_are_the_ones_asked_for(subject, label):
    name = await subject.node(label, "other")
    assert (await subject.computer(name)).labels == {name, label, "other"}


async def test_a_nodes_name_may_hold_whatever_jenkins_lets_it(subject):
    name = await subject.node("one", name=subject.name(" (x) 'y' a+b"))
    assert len(await subject.controller.node_secret(name)) == 64
    await subject.controller.describe(name, "changed")
    assert (await subject.computer(name)).description == "changed"
    await subject.controller.delete_node(name)
    assert await subject.computer(name) is None


async def test_a_taken_name_is_told_as_such(subject):
    name = await subject.node()
    with pytest.raises(NodeExists, match="already exists"):
        await subject.node(name=name)


async def test_a_name_that_jenkins_does_not_take_is_refused(subject):
    with pytest.raises(ControllerError, match="unsafe character") as refusal:
        await subject.node(name=subject.name("/x"))
    assert type(refusal.value) not in {NodeExists, ControllerUnavailable, ControllerRefused}


async def test_a_nodes_secret_stays_the_same_and_is_its_own(subject):
    one, two = await subject.node(), await subject.node()
    secret = await subject.controller.node_secret(one)
    assert await subject.controller.node_secret(one) == secret
    assert await subject.controller.node_secret(two) != secret


async def test_a_node_is_set_offline_with_a_reason_that_may_change_and_online_once(subject):
    name = await subject.node()
    for reason in ("first & last", "sécond"):
        await subject.controller.set_offline(name, reason)
        node = await subject.computer(name)
        assert (node.offline, node.marked_offline, node.reason) == (True, True, reason)
    for _ in range(2):
        await subject.controller.set_online(name)
        node = await subject.computer(name)
        assert (node.marked_offline, node.reason) == (False, "")


async def test_what_is_done_to_a_node_that_is_gone_does_nothing(subject):
    name = await subject.node()
    await subject.controller.delete_node(name)
    await subject.controller.delete_node(name)
    await subject.controller.set_offline(name, "x")
    await subject.controller.set_online(name)
    await subject.controller.describe(name, "x")
    with pytest.raises(NodeNotFound, match=name):
        await subject.controller.node_secret(name)
    assert await subject.computer(name) is None


async def test_a_waiting_build_says_which_label_it_wants(subject):
    before = time.time()
    label = f"{subject.name()} && !windows"
    item = await subject.waiting(label)
    assert item.label_expression == label
    assert (item.buildable, item.pending) == (True, False)
    assert item.url.startswith(("http://", "https://"))
    assert item.url.endswith("%20job/")
    assert before - 60 < item.since < time.time() + 60


@pytest.mark.parametrize(
    ("label", "labels"),
    [
        ("{}", ["{}"]),
        ("image=a/b:1,run={}", ["image=a/b:1,run={}"]),
        ("{} && !windows", ["{}"]),
        ('"x y {}"', ["x y {}"]),
        ("!(!{})", ["{}", "other"]),
        ('"a:1 {}"||{}', ["a:1 {}"]),
    ],
)
async def test_the_reason_names_the_label_as_long_as_no_node_has_it_and_when_two_have(subject, label, labels):
    await subject.node()  # on a controller without any, no label is named
    unique = subject.name()
    item = await subject.waiting(label.replace("{}", unique))
    computers = await subject.controller.computers()
    assert item.why.startswith("There are no nodes with the label ")
    expected = Wanted(parse_assigned(label.replace("{}", unique)))
    assert wanted(item.why, None, computers) == wanted(item.why, item.label_expression, computers) == expected
    for _ in range(2):
        await subject.node(*(each.replace("{}", unique) for each in labels))
    item = await subject.until(lambda: reason(subject, item, "All nodes of label "))
    assert wanted(item.why, None, await subject.controller.computers()) == expected


async def test_the_reason_names_the_node_if_it_is_the_only_one_with_the_label(subject):
    label = subject.name()
    node = await subject.node(label)
    item = await subject.waiting(label)
    item = await subject.until(lambda: reason(subject, item, f"\u2018{node}\u2019 is offline"))
    assert wanted(item.why, None, await subject.controller.computers()) == Wanted(parse(label), node)
    other = await subject.node(label, "other")
    item = await subject.until(lambda: reason(subject, item, "All nodes of label "))
    await subject.controller.delete_node(node)
    item = await subject.until(lambda: reason(subject, item, f"\u2018{other}\u2019 is offline"))
    assert wanted(item.why, None, await subject.controller.computers()) == Wanted(None, other)


async def reason(subject, item, text):
    found = [each for each in await subject.controller.queue() if each.id == item.id and text in each.why]
    return found[0] if found else None


async def test_an_item_leaves_the_queue_when_it_is_cancelled_however_often(subject):
    item = await subject.waiting(subject.name())
    for _ in range(2):
        await subject.controller.cancel_item(item.id)
        assert item.id not in {each.id for each in await subject.controller.queue()}
    await subject.controller.cancel_item(2_000_000_000)


async def test_a_run_that_is_not_there_is_none_and_stopping_it_does_nothing(subject):
    for url in (f"{subject.url}job/{subject.name()}/1/", f"http://elsewhere.example/job/{subject.name('x')}/7"):
        assert await subject.controller.run(url) is None
        await subject.controller.stop_run(url)


async def test_a_pipelines_part_waits_and_its_run_can_be_stopped(subject):
    try:
        item = await subject.waiting(subject.name(), PIPELINE)
    except jenkins.JenkinsException as error:
        pytest.skip(f"this controller has no pipelines: {error}")
    assert item.label_expression is None
    assert item.url.startswith(subject.url)
    assert item.url.endswith("%20job/1/")
    run = await subject.controller.run(item.url)
    assert (run.number, run.building, run.result) == (1, True, None)
    assert item.name.endswith(run.name)
    await subject.controller.stop_run(run.url)
    ended = await subject.until(lambda: ended_run(subject, run.url))
    assert ended.result == "ABORTED"
    await subject.controller.stop_run(run.url)


async def ended_run(subject, url):
    run = await subject.controller.run(url)
    return None if run.building else run


async def test_the_agents_program_is_a_jar(subject):
    assert (await subject.controller.agent_jar())[:4] == b"PK\3\4"


async def test_the_permissions_are_tried_and_nothing_of_that_stays(subject):
    name = subject.name()
    for _ in ("new", "left by another"):
        found = {permission.name: permission.ok for permission in await subject.controller.probe(name)}
        assert found.pop("Job/Cancel") is None
        assert found.pop("Job/Read") is not False
        assert list(found) == [
            "Overall/Read",
            *("Agent/Create", "Agent/Connect", "Agent/Disconnect", "Agent/Configure", "Agent/Delete"),
        ]
        assert set(found.values()) == {True}
        assert await subject.computer(name) is None
        await subject.node(name=name)


async def test_many_questions_at_once_are_answered(subject):
    queues = await asyncio.gather(*(subject.controller.queue() for _ in range(30)))
    assert len(queues) == 30


VERBS = {
    "info": lambda controller: controller.info(),
    "queue": lambda controller: controller.queue(),
    "computers": lambda controller: controller.computers(),
    "create_node": lambda controller: controller.create_node("n", description="", labels=(), remote_dir="/none"),
    "node_secret": lambda controller: controller.node_secret("n"),
    "set_offline": lambda controller: controller.set_offline("n", "x"),
    "set_online": lambda controller: controller.set_online("n"),
    "describe": lambda controller: controller.describe("n", "x"),
    "delete_node": lambda controller: controller.delete_node("n"),
    "cancel_item": lambda controller: controller.cancel_item(1),
    "run": lambda controller: controller.run("http://h/job/j/1/"),
    "stop_run": lambda controller: controller.stop_run("http://h/job/j/1/"),
    "agent_jar": lambda controller: controller.agent_jar(),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
async def test_a_wrong_token_is_told_as_such_and_not_shown(subject, verb):
    controller = subject.connect("11wrong-token")
    with pytest.raises(ControllerRefused, match=f"could not .*: the token of {subject.user} is wrong") as refusal:
        await verb(controller)
    assert "11wrong-token" not in str(refusal.value)
    await controller.close()


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
async def test_a_controller_that_is_down_is_told_as_such(verb, unused_url):
    controller = JenkinsController(unused_url, user="u", token=lambda: "t", timeout=5)
    with pytest.raises(ControllerUnavailable, match=rf"could not .*: no answer .* at {unused_url} \(.*refused\)"):
        await verb(controller)
    await controller.close()


@pytest.fixture
def unused_url():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/"
