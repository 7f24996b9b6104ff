"""DockerEngine on a real engine: what is Docker's own, beyond what every engine promises (tests/contracts)."""

import asyncio
import secrets
from contextlib import suppress
from pathlib import Path

import anyio
import docker
import pytest

from agent import references
from agent.docker_engine import DockerEngine
from agent.engine import LABEL_SERVICE, Mount
from agent.errors import ContainerNotFound, EngineError, EngineUnavailable, ImageUnavailable
from tests.contracts.subject import ERR, MIB, OUT, Subject, Task, collect
from tests.e2e.harness import BUSYBOX
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


async def test_the_engine_tells_what_it_is(subject, client):
    info = await subject.engine.info()
    assert (info.version, info.cpus) == (client.version()["Version"], client.info()["NCPU"])
    assert info.memory > MIB
    assert "runc" in info.runtimes
    assert info.has_init


async def test_an_image_is_not_there_by_a_name_that_a_push_lends_it(subject, client):
    name = f"registry.example/{secrets.token_hex(8)}:1"
    tags = (name, references.push_mark(name))
    for each in tags:
        client.tag(BUSYBOX, *each.rsplit(":", 1))
    try:
        assert await subject.engine.image(name) is None
        assert await subject.engine.image((await subject.engine.image(BUSYBOX)).id) is not None
        client.remove_image(tags[1], noprune=True)
        assert await subject.engine.image(name) is not None
    finally:
        for each in tags:
            with suppress(docker.errors.ImageNotFound):
                client.remove_image(each, noprune=True)


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
    mount = Mount(volume=name, subpath="in/it", target="/workdir")
    _, output, _ = await subject.run(
        Task("cat /workdir/file; echo more > /workdir/more && echo written"), mounts=[mount]
    )
    assert output[OUT] == b"here\nwritten\n"
    read_only = Mount(volume=name, subpath="in/it", target="/workdir", read_only=True)
    container, output, _ = await subject.run(
        Task("cat /workdir/more; echo no > /workdir/no || echo kept"), mounts=[read_only]
    )
    assert output[OUT] == b"more\nkept\n"
    (mounted,) = await subject.engine.mounts(container)
    assert (mounted.type, mounted.source, mounted.target) == ("volume", name, "/workdir")
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


async def test_a_link_leads_where_it_says_also_below_another_link(subject):
    container = await subject.create(Task("readlink /short/a/link; cat /deep/a/link"))
    await subject.engine.write_file(container, "/etc/some/file", b"content\n", 0o644)
    await subject.engine.write_file(container, "/deep/some", b"", 0o644)
    await subject.engine.make_link(container, "/short", "/deep")
    await subject.engine.make_link(container, "/short/a/link", "../../etc/some/file")
    stream = await subject.attach(container)
    await subject.engine.start(container)
    assert (await collect(stream))[OUT] == b"../../etc/some/file\ncontent\n"


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


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def until(condition):
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - the state of the engine has no event
            await anyio.sleep(0.01)
