"""DockerEngine on a real engine: what is Docker's own, beyond what every engine promises (tests/contracts)."""

import asyncio
import json
import secrets
from contextlib import suppress
from pathlib import Path

import anyio
import docker
import pytest

from agent.docker_engine import DockerEngine
from agent.engine import LABEL_SERVICE, Mount
from agent.errors import ContainerNotFound, EngineError, EngineUnavailable, ImageUnavailable
from tests.contracts.subject import ERR, MIB, OUT, Subject, Task, collect
from tests.fakes.docker_proxy import DockerProxy, Fault
from tests.fakes.registry import Registry

pytestmark = pytest.mark.anyio

SLEEP = Task("echo ready; sleep 60")
BOTH = Task("echo one; echo two >&2")


@pytest.fixture
def client(docker_host):
    """The SDK's own client, to look at what we did from outside."""
    with docker.APIClient(base_url=docker_host, version="1.45") as client:
        yield client


@pytest.fixture
async def subject(docker_host):
    subject = Subject(DockerEngine(docker_host, timeout=30, stream_limit=16, pull_timeout=30))
    yield subject
    await subject.clean()
    await subject.engine.close()


@pytest.fixture
def name(client):
    """A name for a network and a volume, which are removed."""
    name = f"sibling-test-{secrets.token_hex(8)}"
    yield name
    for remove in (client.remove_network, client.remove_volume):
        with suppress(docker.errors.NotFound):
            remove(name)


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


async def test_the_engine_tells_what_it_is(subject, client):
    info = await subject.engine.info()
    assert (info.version, info.cpus) == (client.version()["Version"], client.info()["NCPU"])
    assert info.memory > MIB
    assert "runc" in info.runtimes
    assert info.has_init


async def test_an_engine_that_is_too_old_is_refused(faulty, proxy):
    version = json.dumps({"Version": "20.10.24", "ApiVersion": "1.41"}).encode()
    proxy.faults.append(Fault("GET", "/version", status=200, body=version))
    with pytest.raises(EngineError, match=r"Docker 20\.10\.24 with API 1\.41, and Sibling needs API 1\.45"):
        await faulty.engine.info()


async def test_a_container_has_the_rights_and_limits_of_its_spec_and_no_more(subject):
    look = Task(
        "grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; ulimit -c; df -k /dev/shm | tail -1;"
        "grep ' /t ' /proc/mounts; cat /proc/1/comm; pwd; id -u; echo $WHO; wc -l < /proc/net/dev"
    )
    parts = {"cap_add": ("CHOWN", "SETUID"), "tmpfs": {"/t": "rw,nosuid,size=1m"}, "user": "1000", "workdir": "/srv"}
    _, output, _ = await subject.run(look, **parts)
    lines = output[OUT].decode().splitlines()
    assert [line.split()[-1] for line in lines[:3]] == ["0000000000000081", "1", "2"]
    assert lines[3] == "0"
    assert lines[4].split()[1] == "1024"
    assert "nosuid" in lines[5]
    assert "size=1024k" in lines[5]
    assert lines[6:] == ["docker-init", "/srv", "1000", "sibling", "3"]


async def test_memory_processes_and_cpus_are_bounded(subject, client):
    container = await subject.create(Task("true"), memory=64 * MIB, pids=50, cpus=0.5)
    host = client.inspect_container(container)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"], host["NanoCpus"]) == (
        64 * MIB,
        64 * MIB,
        50,
        500_000_000,
    )
    assert (host["OomScoreAdj"], host["RestartPolicy"]["Name"], host["Privileged"]) == (500, "no", False)


async def test_a_part_of_a_volume_is_mounted_and_read_only_if_asked(subject, client, name):
    await subject.engine.ensure_volume(name, {})
    helper = client.create_container(
        "sibling-test/busybox:1",
        ["sh", "-c", "mkdir -p /v/in/it; echo here > /v/in/it/file"],
        host_config=client.create_host_config(binds=[f"{name}:/v"]),
    )
    client.start(helper)
    client.wait(helper)
    client.remove_container(helper)
    mount = Mount(volume=name, subpath="in/it", target="/work")
    _, output, _ = await subject.run(Task("cat /work/file; echo more > /work/more && echo written"), mounts=[mount])
    assert output[OUT] == b"here\nwritten\n"
    read_only = Mount(volume=name, subpath="in/it", target="/work", read_only=True)
    container, output, _ = await subject.run(
        Task("cat /work/more; echo no > /work/no || echo kept"), mounts=[read_only]
    )
    assert output[OUT] == b"more\nkept\n"
    (mounted,) = await subject.engine.mounts(container)
    assert (mounted.type, mounted.source, mounted.target) == ("volume", name, "/work")
    await subject.clean()


async def test_a_program_that_is_not_there_ends_as_with_a_shell(subject):
    container, output, status = await subject.run(Task(""), entrypoint=("/nowhere",))
    assert status.exit_code == 127
    assert b"/nowhere" in output[ERR]
    assert (await subject.engine.container(container)).state == "exited"


async def test_more_input_than_the_socket_holds_is_refused_at_once(subject):
    container = await subject.create(Task("wc -c"))
    with pytest.raises(EngineError, match="cannot be given 400001 bytes to read; 400000 is the most"):
        await subject.attach(container, b"x" * 400_001)
    stream = await subject.attach(container, b"x" * 400_000)
    await subject.engine.start(container)
    assert (await collect(stream))[OUT] == b"400000\n"


async def test_the_network_is_made_once_and_keeps_containers_apart(subject, client, name):
    await asyncio.gather(*(subject.engine.ensure_network(name, {LABEL_SERVICE: subject.service}) for _ in range(5)))
    await subject.engine.ensure_network(name, {})
    (network,) = client.networks(names=[name])
    assert network["Driver"] == "bridge"
    assert network["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    assert network["Labels"] == {LABEL_SERVICE: subject.service}


async def test_a_network_that_lets_containers_meet_is_refused_with_the_cure(subject, client, name):
    client.create_network(name, driver="bridge")
    with pytest.raises(EngineError, match=f"docker network rm {name}"):
        await subject.engine.ensure_network(name, {})


async def test_a_missing_network_is_not_taken_for_a_missing_container(subject):
    container = await subject.create(Task("true"), network="sibling-test-no-network")
    with pytest.raises(EngineError, match="sibling-test-no-network") as caught:
        await subject.engine.start(container)
    assert not isinstance(caught.value, ContainerNotFound)


async def test_the_volume_is_made_once_and_tells_where_it_is(subject, client, name):
    place = await subject.engine.ensure_volume(name, {LABEL_SERVICE: subject.service})
    assert await subject.engine.ensure_volume(name, {}) == place
    volume = client.inspect_volume(name)
    assert (volume["Mountpoint"], volume["Labels"]) == (place, {LABEL_SERVICE: subject.service})


async def test_an_image_is_pulled_from_its_registry(subject, client):
    content = secrets.token_bytes(16)
    with Registry(content) as registry:
        assert await subject.engine.image(registry.reference) is None
        await subject.engine.pull(registry.reference, print)
        image = await subject.engine.image(registry.reference)
        assert image.user == "builder"
        container = await subject.create(Task("", image=registry.reference))
        assert await subject.engine.read_file(container, "/made-by") == content
        await subject.engine.remove(container)
        client.remove_image(image.id, force=True)


async def test_a_pull_that_takes_its_time_says_how_far_it_is(subject, client):
    said = []
    with Registry(secrets.token_bytes(3_000_000), pause=1.2) as registry:
        await subject.engine.pull(registry.reference, said.append)
        client.remove_image(registry.reference)
    assert said[0].startswith(f"pulling {registry.reference}: 0 of 1 layers, ")
    assert len(said) < 8


async def test_a_pull_fails_with_the_registrys_words(subject):
    with (
        Registry(b"") as registry,
        pytest.raises(ImageUnavailable, match=f"could not pull image {registry.reference}0: .*manifest unknown"),
    ):
        await subject.engine.pull(f"{registry.reference}0", print)


async def test_a_pull_from_a_registry_that_is_down_fails(subject):
    with pytest.raises(ImageUnavailable, match="connection refused"):
        await subject.engine.pull("127.0.0.1:1/nobody/home:1", print)


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


async def test_links_folders_and_devices_are_no_files_to_read(subject):
    container, _, _ = await subject.run(Task("ln -s /etc/passwd /link; mkdir /folder; mkfifo /pipe"))
    for path in ("/link", "/folder", "/pipe", "/"):
        assert await subject.engine.read_file(container, path) is None


async def test_a_file_that_is_too_large_is_not_read(subject):
    container, _, _ = await subject.run(Task("head -c 3000000 /dev/zero > /big"))
    with pytest.raises(EngineError, match="3000000 bytes, and 1048576 is the most"):
        await subject.engine.read_file(container, "/big")


async def test_a_written_file_is_there_when_the_container_starts(subject):
    container = await subject.create(Task("stat -c '%u %g %a' /etc/some/file; cat /etc/some/file"))
    await subject.engine.write_file(container, "/etc/some/file", b"content\n", 0o640)
    stream = await subject.attach(container)
    await subject.engine.start(container)
    assert (await collect(stream))[OUT] == b"0 0 640\ncontent\n"


async def test_a_folder_is_never_overwritten_with_a_file(subject):
    container = await subject.create(Task("ls -d /etc/"))
    with pytest.raises(EngineError, match="could not write /etc into container"):
        await subject.engine.write_file(container, "/etc", b"", 0o644)
    stream = await subject.attach(container)
    await subject.engine.start(container)
    assert (await collect(stream))[OUT] == b"/etc/\n"


async def test_usage_of_a_running_container_is_measured(subject):
    container, stream = await subject.started(Task("echo ready; while :; do :; done"))
    await collect(stream, enough=b"ready\n")
    usage = await subject.engine.stats(container)
    assert usage.memory > 0
    assert usage.pids >= 2
    idle = await subject.create(Task("true"))
    assert (await subject.engine.stats(idle)).pids == 0


async def test_a_grace_of_a_fraction_is_rounded_up(subject):
    container, stream = await subject.started(
        Task("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done")
    )
    following = asyncio.create_task(collect(await subject.engine.logs(container, follow=True)))
    await collect(stream, enough=b"ready\n")
    await subject.engine.stop(container, 0.5)
    assert (await following)[OUT] == b"ready\nbye\n"
    assert (await subject.engine.wait(container)).exit_code == 5


BIG = Task(
    "seq 1 100000; head -c 20000000 /dev/zero | tr '\\0' x; printf '\\377\\000' >&2; seq 1 5000 >&2;"
    "head -c 1000000 /dev/urandom; i=0; while [ $i -lt 500 ]; do printf a; printf b >&2; i=$((i+1)); done"
)


async def test_a_log_of_all_kinds_is_the_same_attached_followed_and_replayed(subject):
    container, stream = await subject.started(BIG, log_size=100 * MIB)
    follow = await subject.engine.logs(container, follow=True)
    attached, followed = await asyncio.gather(collect(stream), collect(follow))
    replayed = await collect(await subject.engine.logs(container, follow=False))
    assert len(attached[OUT]) == 588_895 + 20_000_000 + 1_000_000 + 500
    assert attached[ERR].startswith(b"\xff\x001\n2\n")
    assert attached == followed == replayed


async def test_streams_never_keep_a_short_call_waiting(docker_host):
    subject = Subject(DockerEngine(docker_host, timeout=30, stream_limit=1, pull_timeout=30))
    container, stream = await subject.started(SLEEP)
    pump = asyncio.create_task(collect(stream))
    waiting = asyncio.create_task(subject.engine.wait(container))
    assert (await subject.engine.container(container)).state == "running"
    await subject.engine.remove(container)
    assert (await pump)[OUT] == b"ready\n"
    await asyncio.gather(waiting, return_exceptions=True)
    await subject.engine.close()


async def test_closing_the_engine_ends_what_is_under_way(docker_host, subject):
    closing = DockerEngine(docker_host, timeout=30, stream_limit=16, pull_timeout=30)
    container, _ = await subject.started(SLEEP)
    stream = await closing.logs(container, follow=True)
    read = asyncio.Event()
    loop = asyncio.get_running_loop()
    pump = stream.pump(lambda *_: loop.call_soon_threadsafe(read.set))
    under_way = [asyncio.create_task(pump), asyncio.create_task(closing.wait(container))]
    await read.wait()
    await until(lambda: all(hasattr(each, "response") for each in closing._calls._connections))
    await closing.close()
    ends = await asyncio.gather(*under_way, return_exceptions=True)
    assert [type(end) for end in ends] == [EngineUnavailable, EngineUnavailable]


async def test_a_life_leaves_no_connection_open(subject):
    await subject.run(BOTH)
    before = open_files()
    for _ in range(3):
        container, _, _ = await subject.run(BOTH)
        await collect(await subject.engine.logs(container, follow=False))
        await subject.engine.read_file(container, "/etc/passwd")
        await subject.engine.remove(container)
    assert open_files() <= before


# ------------------------------------------------------------------------------------------------ bad days


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


async def test_removing_what_is_being_removed_waits_until_it_is_gone(faulty, proxy, subject):
    container = await faulty.create(SLEEP)
    proxy.faults.append(Fault("DELETE", "/containers/", status=409, message="removal is already in progress"))
    removal = asyncio.create_task(faulty.engine.remove(container))
    await until(lambda: any("condition=removed" in request for request in proxy.requests))
    assert not removal.done()
    await subject.engine.remove(container)
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


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def until(condition):
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - the state of the engine has no event
            await anyio.sleep(0.01)
