"""The simulated controller answers as the recorded one did, and is as patient, as forgetful and as broken as told."""

import threading

import jenkins
import pytest
import requests

from tests.fakes.controller import Simulator
from tests.fakes.controller.labels import label_of, words
from tests.fakes.controller.replay import exchanges, replay
from tests.fakes.controller.scenarios import ALL

ENGLISH = {"Accept-Language": "en"}


@pytest.fixture
def sim():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def http(sim):
    with requests.Session() as session:
        session.auth = sim.auth
        session.headers.update(ENGLISH)
        yield lambda method, path, **how: session.request(
            method, sim.url + path, allow_redirects=False, timeout=20, **how
        )


# as recorded


@pytest.mark.parametrize("name", ALL)
def test_answers_as_recorded(sim, name):
    scenario, left_out = ALL[name]
    assert replay(sim, name, before=scenario(sim), without=left_out) == []


def test_most_of_the_recordings_are_replayed():
    assert sum(len(exchanges(name)) - len(left_out) for name, (_, left_out) in ALL.items()) > 350


def test_python_jenkins_makes_uses_and_deletes_a_node(sim):
    client = jenkins.Jenkins(sim.url, *sim.auth, timeout=20)
    launcher = {"launcher": jenkins.LAUNCHER_JNLP, "launcher_params": {"webSocket": True}}
    client.create_node("n1", numExecutors=1, remoteFS="/work", labels="a b", exclusive=True, **launcher)
    assert sim.nodes["n1"].web_socket
    sim.add_freestyle("job", "a && b")
    item = client.build_job("job")
    assert client.get_queue_item(item)["task"]["name"] == "job"
    sim.hand_agent("n1", automatic=True)
    assert client.get_build_info("job", 1)["result"] == sim.wait_ended(item).result == "SUCCESS"
    client.delete_node("n1")
    assert not client.node_exists("n1")


# labels, trees, languages


@pytest.mark.parametrize(
    ("text", "name", "matches"),
    [
        ("a", "a", {"a", "a b"}),
        ("a&&b", "a&&b", {"a b"}),
        ("a || b", "a||b", {"a", "b", "a b"}),
        ("!a", "!a", {"", "b"}),
        ("!(a||b)", "!(a||b)", {""}),
        ("a -> b", "a->b", {"", "b", "a b"}),
        ("a <-> b", "a<->b", {"", "a b"}),
        ("a || a && b", "a||a&&b", {"a", "a b"}),
        ("(a || b) && b", "(a||b)&&b", {"b", "a b"}),
        ("a->b->a", "a->b->a", set()),
        ("!!a", "!!a", set()),
        ("image=x/y:1", "image=x/y:1", set()),
        ("image=x/y:1&&a", '"image=x/y:1"&&a', set()),
        ('"a b"', "a b", set()),
        ("a b", "a b", set()),
        ("a-b", "a-b", set()),
        ("a &&", "a &&", set()),
    ],
)
def test_label_expressions_are_read_and_written_as_jenkins_does(text, name, matches):
    label = label_of(text)
    assert label.name == name
    assert {have for have in ("", "a", "b", "a b") if label.matches(frozenset(words(have)))} == matches


@pytest.mark.parametrize(
    ("tree", "numbers"), [("{0,2}", [5, 4]), ("{,1}", [5]), ("{3}", [2]), ("{3,}", [2, 1]), ("", [5, 4, 3, 2, 1])]
)
def test_a_tree_picks_a_range(sim, http, tree, numbers):
    sim.add_node("n1", "a")
    sim.add_freestyle("f/g/job", "a")
    sim.hand_agent("n1", automatic=True)
    for _ in range(5):
        sim.wait_ended(sim.build("f/g/job"))
    answer = http("GET", f"job/f/job/g/job/job/api/json?tree=builds[number]{tree},nothing[at,all]").json()
    assert [build["number"] for build in answer["builds"]] == numbers
    assert set(answer) == {"_class", "builds"}


@pytest.mark.parametrize("tree", ["builds[number", "builds]", "a[b]c[", "builds[number]{x}"])
def test_a_tree_that_cannot_be_read_is_refused(http, tree):
    assert http("GET", f"api/json?tree={tree}").status_code == 400


@pytest.mark.parametrize(
    ("language", "english"), [("en", True), ("en-US,en;q=0.9", True), (None, False), ("de", False), ("*", False)]
)
def test_why_is_english_only_for_who_asks_for_it(sim, http, language, english):
    sim.add_freestyle("job", "a")
    sim.build("job")
    why = http("GET", "queue/api/json", headers={"Accept-Language": language}).json()["items"][0]["why"]
    assert why == (
        "Waiting for next available executor" if english else "Warte auf den nächsten freien Build-Prozessor"
    )


def test_an_exclusive_node_takes_only_who_names_a_label_of_it(sim):
    sim.add_node("n1", "a")
    sim.hand_agent("n1", automatic=True)
    sim.add_freestyle("any")
    waiting = sim.build("any")
    assert sim.why(waiting).endswith(" is reserved for jobs with matching label expression")
    sim.add_node("n2", exclusive=False)
    sim.hand_agent("n2", automatic=True)
    assert sim.wait_ended(waiting).node == "n2"


# who may


@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("GET", "api/json", "Overall/Read"),
        ("POST", "computer/doCreateItem?name=x", "Agent/Create"),
        ("GET", "computer/n1/jenkins-agent.jnlp", "Agent/Connect"),
        ("POST", "computer/n1/changeOfflineCause", "Agent/Disconnect"),
        ("POST", "computer/n1/toggleOffline", "Agent/Disconnect"),
        ("POST", "computer/n1/submitDescription", "Agent/Configure"),
        ("GET", "computer/n1/config.xml", "Agent/Configure"),
        ("POST", "computer/n1/doDelete", "Agent/Delete"),
        ("POST", "job/job/build", "Job/Build"),
        ("POST", "job/job/1/stop", "Job/Cancel"),
    ],
)
def test_a_missing_permission_is_named(sim, http, method, path, permission):
    sim.add_node("n1", "a")
    sim.add_freestyle("job", "a")
    sim.hand_agent("n1", automatic=True)
    sim.wait_ended(sim.build("job"))
    needed = {"Overall/Read", "Job/Read"} - {permission}
    sim.set_permissions(needed)
    answer = http(method, path)
    assert answer.status_code == 403
    assert f"admin is missing the {permission} permission" in answer.text
    assert answer.headers["X-Required-Permission"].startswith("hudson.model.")
    sim.grant(permission)
    assert http(method, path).status_code != 403


def test_without_job_read_there_are_no_jobs(sim, http):
    sim.add_node("n1", "a")
    sim.add_freestyle("job", "a")
    sim.add_pipeline("pipe", "b")
    sim.hand_agent("n1")
    running, waiting = sim.build("job"), sim.build("pipe")
    sim.wait_started(running)
    sim.set_permissions({"Overall/Read", "Job/Cancel"})
    assert http("GET", "queue/api/json").json()["items"] == []
    shown = http("GET", "computer/n1/api/json?tree=idle,executors[currentExecutable[url]]").json()
    assert (shown["idle"], shown["executors"]) == (False, [{"currentExecutable": None}])
    assert (
        http("GET", "job/job/api/json").status_code == http("GET", f"queue/item/{waiting}/api/json").status_code == 404
    )
    sim.set_permissions({"Overall/Read", "Job/Read"})
    assert http("POST", f"queue/cancelItem?id={waiting + 1}").status_code == 422


def test_a_revoked_token_is_401_until_it_is_back(sim, http):
    sim.revoke_token()
    assert http("GET", "login").status_code == 401
    sim.restore_token()
    assert http("GET", "api/json").status_code == 200
    other = sim.add_user("other", {"Overall/Read"})
    assert requests.get(sim.url + "me/api/json", auth=("other", other), timeout=20).json()["id"] == "other"


# what goes wrong


def test_faults_answer_drop_delay_and_lose_answers(sim, http):
    sim.faults.add("POST .*/doCreateItem", status=503, body="<html>busy</html>")
    form = {"name": "n1", "type": "hudson.slaves.DumbSlave", "json": "{}"}
    assert http("POST", "computer/doCreateItem", data=form).text == "<html>busy</html>"
    assert not sim.nodes
    sim.faults.add("doCreateItem", drop=True, after=True)
    with pytest.raises(requests.ConnectionError):
        http("POST", "computer/doCreateItem", data=form)
    assert set(sim.nodes) == {"n1"}
    lasting = sim.faults.add("GET /api", times=None, drop=True)
    for _ in range(3):
        with pytest.raises(requests.ConnectionError):
            http("GET", "api/json")
    sim.faults.remove(lasting)
    sim.faults.add("GET /api", delay=0.2)
    assert http("GET", "api/json").elapsed.total_seconds() > 0.2
    assert [request.status for request in sim.requests] == [503, None, None, None, None, 200]
    assert sim.count("POST /computer/doCreateItem") == 2


def test_a_slow_answer_does_not_hold_up_the_end(sim):
    sim.faults.add("GET", delay=600)
    cut = []

    def ask():
        with pytest.raises(requests.ConnectionError) as error:
            requests.get(sim.url, timeout=60)
        cut.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    sim.wait_request("GET")
    sim.stop()
    asking.join()
    assert cut


def test_a_restart_is_seen_as_refused_then_503_then_401_then_another_session(sim, http):
    seen, before, gone = [], sim.session, threading.Event()

    def look():
        while not gone.is_set():
            try:
                now = http("GET", "api/json").status_code
            except requests.ConnectionError:
                now = "refused"
            if [now] != seen[-1:]:
                seen.append(now)

    watching = threading.Thread(target=look)
    watching.start()
    sim.wait_request("GET /api/json")
    sim.restart(refused=0.3, starting=0.3, unauthorized=0.3)
    sim.forget_requests()
    sim.wait_request("GET /api/json", 2)
    gone.set()
    watching.join()
    assert seen == [200, "refused", 503, 401, 200]
    assert http("GET", "api/json").headers["X-Jenkins-Session"] == sim.session != before


def test_a_quiet_period_ends_by_the_clock_and_quieting_down_by_word(sim):
    sim.add_node("n1", "a")
    sim.add_freestyle("job", "a")
    sim.hand_agent("n1", automatic=True)
    sim.quiet_down("maintenance")
    item = sim.build("job", delay=60)
    sim.move_clock(61)
    assert sim.why(item) == "Jenkins is about to shut down"
    sim.quiet_down(None)
    assert sim.wait_ended(item).result == "SUCCESS"


def test_progressive_text_counts_bytes_as_they_are_kept(sim, http):
    sim.add_node("n1", "a")
    sim.add_freestyle("job", "a", "true")
    agent = sim.hand_agent("n1")
    sim.wait_started(sim.build("job"))
    first = http("GET", "job/job/1/logText/progressiveText?start=0")
    assert first.headers["X-More-Data"] == "true"
    assert "\x1b[8mha:" in first.text
    agent.say("one\ntwo\n")
    agent.finish()
    size = first.headers["X-Text-Size"]
    rest = http("GET", f"job/job/1/logText/progressiveText?start={size}")
    assert rest.text == "one\r\ntwo\r\nFinished: SUCCESS\r\n"
    assert int(rest.headers["X-Text-Size"]) == int(size) + len("one\ntwo\nFinished: SUCCESS\n")
    assert "X-More-Data" not in rest.headers
    assert http("GET", "job/job/1/logText/progressiveText?start=99999").text == first.text + rest.text
