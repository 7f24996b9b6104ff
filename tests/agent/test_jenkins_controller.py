"""JenkinsController: what it costs the controller, what it finds there, and what it may do; on the simulated one."""

from contextlib import suppress

import pytest

from agent.controller import Executable
from agent.errors import ControllerRefused, ControllerUnavailable, NodeExists, NodeNotFound
from agent.jenkins_controller.answers import path_below
from tests.agent.jenkins_steps import VERBS, connect, simulated
from tests.fakes.controller import PERMISSIONS

pytestmark = pytest.mark.anyio


@pytest.fixture
def simulator():
    with simulated() as simulator:
        yield simulator


@pytest.fixture
async def controller(simulator):
    controller = connect(simulator)
    yield controller
    await controller.close()


# what it costs, and how it asks


async def test_the_queue_and_all_nodes_are_one_request_each(simulator, controller):
    for number in range(20):
        simulator.add_node(f"n{number}", "gpu")
        simulator.add_freestyle(f"j{number}", "gpu")
        simulator.build(f"j{number}")
    assert len(await controller.queue()) == 21
    assert len(await controller.computers()) == 22
    assert [request.line.partition("?")[0] for request in simulator.requests] == [
        "GET /queue/api/json",
        "GET /computer/api/json",
    ]


async def test_every_request_asks_for_english_and_none_for_a_crumb(simulator, controller):
    for _, verb in VERBS.values():
        await verb(controller)
    assert {request.headers["accept-language"] for request in simulator.requests} == {"en"}
    assert simulator.count("crumb") == 0


async def test_a_form_is_sent_once_and_its_page_is_not_fetched(simulator, controller):
    for name in ("create_node", "set_offline", "describe", "delete_node"):
        line, verb = VERBS[name]
        simulator.forget_requests()
        await verb(controller)
        assert [(request.line, request.status) for request in simulator.requests] == [(line, 302)]


async def test_no_proxy_and_no_netrc_of_the_environment_is_used(simulator, controller, monkeypatch, tmp_path):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert await controller.queue()
    assert {request.user for request in simulator.requests} == {simulator.user}


async def test_connections_are_kept(simulator, controller):
    for _, verb in [*VERBS.values()] * 3:
        with suppress(NodeExists, NodeNotFound):
            await verb(controller)
    pools = controller._calls._client._session.get_adapter(simulator.url).poolmanager.pools
    assert [pools[key].num_connections for key in pools.keys()] == [1]  # noqa: SIM118 - not a mapping


# what is found


async def test_what_runs_on_a_node_is_told_and_can_be_stopped(simulator, controller):
    agent = simulator.hand_agent("n")
    simulator.wait(lambda: agent.steps)
    (node,) = [computer for computer in await controller.computers() if computer.name == "n"]
    url = f"{simulator.url}job/j/1/"
    assert (node.offline, node.idle, node.executables) == (False, False, (Executable(url=url, number=1, name="j #1"),))
    assert await controller.queue() == []
    run = await controller.run(url)
    assert (run.url, run.number, run.name, run.building, run.result) == (url, 1, "j #1", True, None)
    await controller.stop_run(url)
    run = await controller.run(url)
    assert (run.building, run.result) == (False, "ABORTED")
    await controller.stop_run(url)


async def test_a_pipelines_part_is_told_by_the_url_of_the_whole_run(simulator, controller):
    simulator.cancel(1)
    simulator.add_pipeline("folder/p 1", "gpu", "make")
    simulator.build("folder/p 1")
    (item,) = await controller.queue()
    assert (item.url, item.label_expression) == (f"{simulator.url}job/folder/job/p%201/1/", None)
    agent = simulator.hand_agent("n")
    simulator.wait(lambda: agent.steps)
    (node,) = [computer for computer in await controller.computers() if computer.name == "n"]
    assert [executable.url for executable in node.executables] == [item.url]
    assert (await controller.run(item.url)).building


async def test_without_the_permission_to_see_jobs_nothing_is_seen_and_nothing_breaks(simulator, controller):
    agent = simulator.hand_agent("n")
    simulator.wait(lambda: agent.steps)
    simulator.build("j")
    simulator.set_permissions({"Overall/Read"})
    assert await controller.queue() == []
    (node,) = [computer for computer in await controller.computers() if computer.name == "n"]
    assert (node.idle, node.executables) == (False, ())


@pytest.mark.parametrize("name", ["ü %41 #1?a=b&c (x)", "Login"])
async def test_a_nodes_name_is_quoted_in_addresses(simulator, controller, name):
    simulator.add_node(name)
    await controller.describe(name, "found")
    assert simulator.nodes[name].description == "found"


async def test_runs_are_found_by_path_whatever_the_host_in_their_urls(simulator):
    address = simulator.url
    simulator.core.url = "https://ci.example/jenkins/"
    controller = connect(simulator, url=address.rstrip("/"))
    assert controller.url == address
    agent = simulator.hand_agent("n")
    simulator.wait(lambda: agent.steps)
    (node,) = [computer for computer in await controller.computers() if computer.name == "n"]
    assert [executable.url for executable in node.executables] == ["https://ci.example/jenkins/job/j/1/"]
    await controller.stop_run("https://ci.example/jenkins/job/j/1/")
    assert (await controller.run("https://ci.example/jenkins/job/j/1/")).result == "ABORTED"
    assert (await controller.info()).url == "https://ci.example/jenkins/"
    await controller.close()


@pytest.mark.parametrize(
    ("root", "url", "path"),
    [
        ("http://h/", "http://h/job/j/1/", "job/j/1/"),
        ("http://h/", "http://h/job/j/1", "job/j/1/"),
        ("http://h/", "https://ci.example/jenkins/job/a/job/b%20c/1/", "job/a/job/b%20c/1/"),
        ("http://h/jenkins/", "http://h/jenkins/job/job/1/", "job/job/1/"),
        ("http://h/jenkins/", "https://ci.example/jenkins/job/j/1/", "job/j/1/"),
        ("http://h/jenkins/", "https://ci.example/job/j/1/", "job/j/1/"),
        ("http://h/job/x/", "http://h/job/x/job/j/1/", "job/j/1/"),
        ("http://h/", "http://h/job/j/1/?x=y#z", "job/j/1/"),
        ("http://h/", "/job/j/1/", "job/j/1/"),
        ("http://h/", "http://evil.example/etc", "etc/"),
    ],
)
async def test_a_runs_path_is_the_part_of_its_url_below_the_controllers(root, url, path):
    assert path_below(root, url) == path


# who may


async def test_a_replaced_token_heals_without_a_restart_and_is_not_read_for_nothing(simulator):
    tokens = ["11wrong"]
    reads = []

    def token():
        reads.append(tokens[0])
        return tokens[0]

    controller = connect(simulator, token=token)
    for _ in range(2):
        with pytest.raises(ControllerRefused, match="the token of admin is wrong or was revoked") as refusal:
            await controller.queue()
        assert "11wrong" not in str(refusal.value)
    tokens[0] = simulator.token
    for _ in range(3):
        assert await controller.queue()
    assert reads == ["11wrong", "11wrong", simulator.token]
    simulator.revoke_token()
    with pytest.raises(ControllerRefused):
        await controller.queue()
    tokens[0] = "11new"
    simulator.restore_token("11new")
    assert await controller.queue()
    assert len(reads) == 4
    await controller.close()


async def test_a_password_is_refused_with_the_cure(simulator):
    controller = connect(simulator, token=lambda: "admin")
    assert await controller.queue()
    with pytest.raises(ControllerRefused, match=r"could not delete node n: .* give it an API token instead"):
        await controller.delete_node("n")
    await controller.close()


NEEDS = {
    "info": "Overall/Read",
    "queue": "Overall/Read",
    "computers": "Overall/Read",
    "create_node": "Agent/Create",
    "node_secret": "Agent/Connect",
    "set_offline": "Agent/Disconnect",
    "describe": "Agent/Configure",
    "delete_node": "Agent/Delete",
    "cancel_item": "Job/Cancel",
}


@pytest.mark.parametrize(("name", "permission"), NEEDS.items(), ids=NEEDS)
async def test_a_missing_permission_is_named(simulator, controller, name, permission):
    implying = {"Overall/Administer", *(["Agent/Disconnect"] if permission == "Agent/Connect" else [])}
    simulator.set_permissions(set(PERMISSIONS) - implying - {permission})
    with pytest.raises(ControllerRefused, match=rf"could not .*\b{permission} permission"):
        await VERBS[name][1](controller)


@pytest.mark.parametrize(
    ("body", "headers", "sentence"),
    [
        (
            "",
            {"X-Required-Permission": "hudson.model.Computer.Create"},
            "admin is missing permission hudson.model.Comp",
        ),
        ("<title>Access Denied</title>", {}, "Access Denied"),
        ("<p>me &amp; you is missing the Job/Cancel permission</p>", {}, "you is missing the Job/Cancel permission"),
    ],
)
async def test_a_refusal_is_told_in_the_words_that_there_are(simulator, controller, body, headers, sentence):
    simulator.faults.add("queue", status=403, body=body, headers={"X-Jenkins": "2.541.3"} | headers)
    with pytest.raises(ControllerRefused, match=rf"could not look at the queue: {sentence}"):
        await controller.queue()


def found(permissions):
    return {permission.name: permission.ok for permission in permissions}


NODE = ("Agent/Create", "Agent/Connect", "Agent/Disconnect", "Agent/Configure", "Agent/Delete")
ALL = dict.fromkeys(("Overall/Read", *NODE, "Job/Read"), True) | {"Job/Cancel": None}


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ((), {}),
        (["Agent/Connect", "Agent/Disconnect"], dict.fromkeys(["Agent/Connect", "Agent/Disconnect"], False)),
        (["Agent/Disconnect"], {"Agent/Disconnect": False}),
        (["Agent/Configure"], {"Agent/Configure": False}),
        (["Agent/Delete"], {"Agent/Delete": False}),
        (["Agent/Create"], dict.fromkeys(NODE) | {"Agent/Create": False}),
        (["Job/Read"], {"Job/Read": None}),
        (["Job/Cancel"], {}),
        (["Overall/Read"], dict.fromkeys(ALL) | {"Overall/Read": False}),
    ],
    ids=str,
)
async def test_a_probe_tells_the_permissions_that_are_missing(simulator, controller, missing, told):
    simulator.set_permissions(set(ALL) - set(missing))
    permissions = await controller.probe("probe")
    assert found(permissions) == ALL | told
    assert all(permission.detail for permission in permissions if permission.ok is not True)
    assert ("probe" in simulator.nodes) == ("Agent/Delete" in missing)
    simulator.set_permissions(ALL)
    assert found(await controller.probe("probe")) == ALL
    assert "probe" not in simulator.nodes


async def test_a_probe_with_a_wrong_token_says_so(simulator):
    controller = connect(simulator, token=lambda: "11wrong")
    permissions = await controller.probe("probe")
    assert found(permissions) == dict.fromkeys(ALL) | {"Overall/Read": False}
    assert "the token of admin is wrong" in permissions[0].detail
    await controller.close()


async def test_a_probe_of_a_controller_that_is_down_is_none(simulator, controller):
    simulator.stop()
    with pytest.raises(ControllerUnavailable):
        await controller.probe("probe")


async def test_a_missing_node_has_no_secret(controller):
    with pytest.raises(NodeNotFound, match="could not read the secret of node none: there is no"):
        await controller.node_secret("none")
