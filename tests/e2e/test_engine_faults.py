"""The engine has a bad day: whatever it answers, no build succeeds that did not, and every log says why."""

import pytest

from tests.e2e.harness import ServiceProcess, let_pass, until
from tests.fakes.docker_proxy import DockerProxy, Fault

pytestmark = pytest.mark.engine

VERBS = {
    "image": ("GET", r"^/images/.*/json"),
    "create": ("POST", r"^/containers/create"),
    "attach": ("POST", r"/attach"),
    "start": ("POST", r"/start"),
    "wait": ("POST", r"/wait"),
    "inspect": ("GET", r"^/containers/[^/]+/json"),
    "remove": ("DELETE", r"^/containers/"),
}
LINES = b"".join(b"line %d %s\n" % (number, b"x" * 200) for number in range(2000))
LONG = [
    "i=0",
    f"while [ $i -lt 2000 ]; do echo line $i {'x' * 200}; i=$((i + 1)); [ $((i % 400)) -ne 0 ] || sleep 0.1; done",
]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, docker_host):
    with DockerProxy(tmp_path_factory.mktemp("proxy") / "docker.sock", docker_host) as made:
        yield made


@pytest.fixture(scope="module")
def behind(proxy, tmp_path_factory, docker_host):
    process = ServiceProcess(tmp_path_factory.mktemp("service"), docker_host, engine__host=proxy.host).start()
    yield process
    process.destroy()


@pytest.fixture
def service(behind, proxy):
    yield behind
    proxy.faults.clear()


@pytest.mark.parametrize("status", [404, 409, 500])
@pytest.mark.parametrize("verb", VERBS)
def test_an_error_at_any_verb_makes_no_success_of_a_failure(service, proxy, verb, status):
    method, path = VERBS[verb]
    proxy.faults.append(Fault(method, path, status=status, message="a bad day"))
    build = service.run(commands=["echo out", "exit 3"], pull="never")
    log = service.text(build["id"])
    assert build["result"] in ("FAILURE", "NOT_BUILT"), build
    assert b"[sibling] " in log
    if build["exit_code"] is None:
        assert any(words in log for words in (b"a bad day", b"is not on the engine", b"there is no container")), log
    else:
        assert build["exit_code"] == 3
        assert log.startswith(b"out\n")
    service.assert_nothing_left()


@pytest.mark.parametrize("verb", VERBS)
def test_an_engine_that_answers_slowly_delays_and_spoils_nothing(service, proxy, verb):
    method, path = VERBS[verb]
    proxy.faults.append(Fault(method, path, delay=1.5))
    build = service.run(commands=["echo out"])
    assert build["result"] == "SUCCESS", build
    assert service.text(build["id"]) == b"out\n"
    service.assert_nothing_left()


@pytest.mark.parametrize("verb", ["image", "create", "attach", "start", "wait", "inspect"])
def test_an_answer_that_is_cut_off_is_asked_for_again(service, proxy, verb):
    method, path = VERBS[verb]
    proxy.faults.append(Fault(method, path, cut_after=0))
    build = service.run(commands=["echo out"])
    assert build["result"] in ("SUCCESS", "NOT_BUILT"), build
    assert service.text(build["id"]).startswith(b"out\n") or build["message"]
    service.assert_nothing_left()


@pytest.mark.parametrize("size", [1, 8, 9, 1000, 100_000, 300_001])
def test_a_log_stream_that_is_cut_anywhere_goes_on_without_a_lost_or_doubled_byte(service, proxy, size):
    proxy.faults.append(Fault("POST", r"/attach", cut_after=size))
    build = service.run(commands=LONG)
    assert build["result"] == "SUCCESS", build
    assert service.text(build["id"]) == LINES


def test_a_log_stream_that_is_cut_again_and_again_is_whole_in_the_end(service, proxy):
    proxy.faults.append(Fault("POST", r"/attach", cut_after=1000))
    proxy.faults.append(Fault("GET", r"/logs", cut_after=50_000, times=3))
    build = service.run(commands=LONG)
    assert build["result"] == "SUCCESS", build
    assert service.text(build["id"]) == LINES


def test_an_engine_that_is_away_for_a_while_costs_no_byte_of_a_running_build(service, proxy):
    build_id = service.post(commands=[*LONG, "sleep 2", "echo end"])
    until(lambda: service.text_now(build_id))
    proxy.refuse()
    proxy.cut()
    let_pass(1)
    proxy.accept()
    assert service.wait(build_id)["result"] == "SUCCESS"
    assert service.text(build_id) == LINES + b"end\n"
    service.assert_nothing_left()


def test_a_cancel_reaches_the_container_though_the_engine_refuses_at_first(service, proxy):
    build_id = service.post(commands=["echo up", "sleep 60"])
    until(lambda: service.text_now(build_id))
    proxy.faults.append(Fault("POST", r"/stop", status=500, times=2))
    service.client.post(f"/v1/builds/{build_id}/cancel")
    assert service.wait(build_id, seconds=20)["result"] == "ABORTED"
    service.assert_nothing_left()
