"""DockerEngine when the engine or the way to it fails: a proxy before a real engine plays its bad days, by data."""

import asyncio
import json

import anyio
import pytest

from agent.docker_engine import DockerEngine
from agent.errors import ContainerNotFound, EngineError, EngineUnavailable, ImageUnavailable
from tests.contracts.subject import Subject, Task, collect
from tests.fakes.docker_proxy import DockerProxy, Fault

pytestmark = pytest.mark.anyio

SLEEP = Task("echo ready; sleep 60")
BOTH = Task("echo one; echo two >&2")


@pytest.fixture
def proxy(docker_host, tmp_path):
    with DockerProxy(tmp_path / "proxy.sock", docker_host) as proxy:
        yield proxy


@pytest.fixture
async def faulty(proxy):
    """A subject whose engine is behind the proxy."""
    subject = Subject(DockerEngine(proxy.host, timeout=2, stream_limit=16, pull_timeout=5))
    yield subject
    proxy.faults.clear()
    await subject.clean()
    await subject.engine.close()


async def test_an_engine_that_is_too_old_is_refused(faulty, proxy):
    version = json.dumps({"Version": "20.10.24", "ApiVersion": "1.41"}).encode()
    proxy.faults.append(Fault("GET", "/version", status=200, body=version))
    with pytest.raises(EngineError, match=r"Docker 20\.10\.24 with API 1\.41, and Sibling needs API 1\.45"):
        await faulty.engine.info()


async def test_a_pull_tells_its_progress_and_fails_where_the_layers_do(faulty, proxy):
    events = [
        {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "id": "a"},
        {"error": "disk full"},
    ]
    body = b"".join(json.dumps(event).encode() + b"\r\n" for event in events)
    proxy.faults.append(Fault("POST", "/images/create", status=200, body=body))
    with pytest.raises(ImageUnavailable, match="could not pull image x:1: disk full"):
        await faulty.engine.pull("x:1", print)


async def test_a_pull_that_takes_too_long_is_given_up(faulty, proxy):
    proxy.faults.append(Fault("POST", "/images/create", delay=60))
    with pytest.raises(ImageUnavailable, match=r"within 5 seconds \(engine.pull_timeout\)"):
        await faulty.engine.pull("x:1", print)


async def test_a_pull_that_is_cancelled_lets_go_at_once(faulty, proxy):
    proxy.faults.append(Fault("POST", "/images/create", delay=60))
    with anyio.move_on_after(0.5) as scope:
        await faulty.engine.pull("x:1", print)
    assert scope.cancelled_caught


CONTAINER_VERBS = [
    ("POST", "/attach", lambda engine, name: engine.attach(name, b"")),
    ("GET", "/logs", lambda engine, name: engine.logs(name, follow=False)),
    ("POST", "/start", lambda engine, name: engine.start(name)),
    ("POST", "/wait", lambda engine, name: engine.wait(name)),
    ("GET", "/stats", lambda engine, name: engine.stats(name)),
    ("PUT", "/archive", lambda engine, name: engine.write_file(name, "/x", b"", 0o644)),
]
OTHER_VERBS = [
    ("GET", "/info", lambda engine, _: engine.info()),
    ("GET", "/images/x/json", lambda engine, _: engine.image("x")),
    ("POST", "/images/create", lambda engine, _: engine.pull("x:1", print)),
    ("POST", "/volumes/create", lambda engine, _: engine.ensure_volume("v", {})),
    ("GET", "/networks/", lambda engine, _: engine.ensure_network("v", {})),
    ("GET", "/containers/json", lambda engine, _: engine.list({})),
    ("GET", "/archive", lambda engine, name: engine.read_file(name, "/x")),
    ("POST", "/stop", lambda engine, name: engine.stop(name, 1)),
    ("DELETE", "/containers/", lambda engine, name: engine.remove(name)),
]


def ids(verbs):
    return [f"{method} {path}" for method, path, _ in verbs]


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    ("method", "path", "verb"), CONTAINER_VERBS + OTHER_VERBS, ids=ids(CONTAINER_VERBS + OTHER_VERBS)
)
async def test_a_refusal_keeps_the_engines_words(faulty, proxy, status, method, path, verb):
    container = await faulty.create(SLEEP)
    proxy.faults.append(Fault(method, path, status=status, message="the moon is full"))
    with pytest.raises(EngineError, match=r"could not .*: the moon is full") as caught:
        await verb(faulty.engine, container)
    assert not isinstance(caught.value, EngineUnavailable | ContainerNotFound)


@pytest.mark.parametrize(("method", "path", "verb"), CONTAINER_VERBS, ids=ids(CONTAINER_VERBS))
async def test_a_404_about_something_else_does_not_make_the_container_missing(faulty, proxy, method, path, verb):
    container = await faulty.create(SLEEP)
    proxy.faults.append(Fault(method, path, status=404, message="no such moon"))
    with pytest.raises(EngineError, match="no such moon") as caught:
        await verb(faulty.engine, container)
    assert not isinstance(caught.value, ContainerNotFound)


async def test_a_404_of_create_is_not_about_the_image_if_that_is_there(faulty, proxy):
    proxy.faults.append(Fault("POST", "/containers/create", status=404, message="no such moon"))
    with pytest.raises(EngineError, match="no such moon") as caught:
        await faulty.create(SLEEP)
    assert not isinstance(caught.value, ImageUnavailable)


@pytest.mark.parametrize(
    ("method", "path", "verb"), CONTAINER_VERBS + OTHER_VERBS, ids=ids(CONTAINER_VERBS + OTHER_VERBS)
)
async def test_an_answer_that_never_comes_is_told_as_such(faulty, proxy, method, path, verb):
    container = await faulty.create(SLEEP)
    proxy.faults.append(Fault(method, path, delay=60))
    with pytest.raises((EngineUnavailable, ImageUnavailable), match="could not"):
        await verb(faulty.engine, container)


async def test_removing_what_is_being_removed_waits_until_it_is_gone(faulty, proxy):
    container = await faulty.create(SLEEP)
    proxy.faults.append(Fault("DELETE", "/containers/", status=409, message="removal is already in progress"))
    removal = asyncio.create_task(faulty.engine.remove(container))
    await until(lambda: any("condition=removed" in request for request in proxy.requests))
    assert not removal.done()
    await faulty.engine.remove(container)  # the fault was for one request only
    await removal


@pytest.mark.parametrize("at", [0, 5, 30])
async def test_a_log_that_is_cut_off_is_never_taken_for_whole(faulty, proxy, at):
    container, _, _ = await faulty.run(BOTH)
    proxy.faults.append(Fault("GET", "/logs", cut_after=at))
    with pytest.raises(EngineUnavailable, match=f"could not read the log of container {container} to the end"):
        await collect(await faulty.engine.logs(container, follow=False))


async def test_output_that_is_cut_in_a_frame_is_told_as_such(faulty, proxy):
    proxy.faults.append(Fault("POST", "/attach", cut_after=10))
    with pytest.raises(EngineUnavailable, match=r"could not read the output of container .* to the end"):
        await faulty.run(BOTH)


async def test_output_that_is_cut_by_a_dying_engine_is_told_as_such(faulty, proxy):
    container, _ = await faulty.started(SLEEP)
    log = await faulty.engine.logs(container, follow=True)
    with pytest.raises(EngineUnavailable):
        await log.pump(lambda *_: proxy.cut())


async def test_a_wait_that_is_cut_off_is_no_end(faulty, proxy):
    container, _ = await faulty.started(SLEEP)
    proxy.faults.append(Fault("POST", "/wait", cut_after=0))
    waiting = asyncio.create_task(faulty.engine.wait(container))
    await until(lambda: any("/wait" in request for request in proxy.requests))
    proxy.cut()
    with pytest.raises(EngineUnavailable, match="could not wait for container"):
        await waiting


@pytest.mark.parametrize("at", [0, 20])
async def test_an_answer_that_is_cut_off_is_none(faulty, proxy, at):
    container = await faulty.create(SLEEP)
    proxy.faults.append(Fault("GET", "/json", cut_after=at))
    with pytest.raises(EngineUnavailable, match="could not look for container"):
        await faulty.engine.container(container)


async def test_an_engine_that_comes_back_is_used_again(faulty, proxy):
    container = await faulty.create(SLEEP)
    proxy.refuse()
    with pytest.raises(EngineUnavailable, match=proxy.host.removeprefix("unix://")):
        await faulty.engine.container(container)
    proxy.accept()
    assert (await faulty.engine.container(container)).name == container


async def until(condition):
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - the state of the engine has no event
            await anyio.sleep(0.01)
