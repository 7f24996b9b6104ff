"""What every `Engine` promises, held for the one in memory and for Docker's by the same tests."""

import asyncio

import pytest

from agent.docker_engine import DockerEngine
from agent.engine import LABEL_BUILD, LABEL_SERVICE
from agent.errors import (
    ContainerExists,
    ContainerNotFound,
    EngineError,
    EngineUnavailable,
    ImageUnavailable,
    PushFailed,
)
from tests.conftest import BUSYBOX
from tests.contracts.subject import ERR, MIB, OUT, Subject, Task, collect
from tests.fakes.memory_engine import MemoryEngine, Script, Step

NO_IMAGE = "sibling-test/none:1"

pytestmark = pytest.mark.anyio

BOTH = Task(
    "printf 'one\\ntwo'; printf 'three' >&2; exit 3",
    Script(steps=((OUT, b"one\n"), (OUT, b"two"), (ERR, b"three")), exit_code=3),
)
BINARY = b"\0\xff\xfe no line end \xc0\x80\r\n\n\x1b[0m\0"
BYTES = Task(
    "printf '" + "".join(f"\\{byte:03o}" for byte in BINARY) + "'",
    Script(steps=((OUT, BINARY),)),
)
ECHO = Task("cat", Script(steps=(Step.ECHO,)))
SLEEP = Task("echo ready; sleep 60", Script(steps=((OUT, b"ready\n"), asyncio.Event())))
STUBBORN = Task(
    "trap '' TERM; echo ready; while :; do sleep 1; done",
    Script(steps=((OUT, b"ready\n"), asyncio.Event()), ignores_term=True),
)
GREEDY = Task(
    "x=a; while :; do x=$x$x; done",
    Script(exit_code=137, oom_killed=True),
    memory=16 * MIB,
)
NOTHING = Task("true", Script())
NOBODY = Task("true", Script(start_error="unable to find user nobody-here"), user="nobody-here")
OVERRIDDEN = Task("echo ours", Script(steps=((OUT, b"ours\n"),)), image="sibling-test/entrypoint:1")


@pytest.fixture(params=["memory", "docker"])
async def subject(request):
    if request.param == "memory":
        engine = MemoryEngine()
    else:
        host = request.getfixturevalue("docker_host")
        engine = DockerEngine(host, timeout=30, stream_limit=32, pull_timeout=30)
    subject = Subject(engine)
    yield subject
    await subject.clean()
    assert await engine.list({LABEL_SERVICE: subject.service}) == []
    await engine.close()


@pytest.fixture(params=["memory", "docker"])
def dead_engine(request, tmp_path):
    """An engine that does not answer."""
    if request.param == "docker":
        return DockerEngine(f"unix://{tmp_path}/nobody.sock", timeout=5, stream_limit=4, pull_timeout=5)
    engine = MemoryEngine()
    engine.up = False
    return engine


async def test_output_of_both_streams_and_the_exit_code_are_exact(subject):
    _, output, status = await subject.run(BOTH)
    assert output == {OUT: b"one\ntwo", ERR: b"three"}
    assert (status.exit_code, status.oom_killed) == (3, False)
    assert status.started_at > 0
    assert status.finished_at > 0


async def test_bytes_that_are_no_text_come_through(subject):
    _, output, _ = await subject.run(BYTES)
    assert output[OUT] == BINARY


@pytest.mark.parametrize("stdin", [b"", b"one line\n", bytes(range(256)) * 782], ids=["none", "line", "200 kB"])
async def test_the_container_reads_all_of_stdin_and_its_end(subject, stdin):
    _, output, status = await subject.run(ECHO, stdin)
    assert output[OUT] == stdin
    assert status.exit_code == 0


async def test_stdin_arrives_though_the_one_who_sent_it_is_gone(subject):
    container = await subject.create(ECHO)
    stream = await subject.attach(container, b"last words")
    stream.close()
    await subject.engine.start(container)
    await subject.engine.wait(container)
    assert (await collect(await subject.engine.logs(container, follow=False)))[OUT] == b"last words"


async def test_the_images_entrypoint_is_overridden(subject):
    _, output, status = await subject.run(OVERRIDDEN)
    assert (output[OUT], status.exit_code) == (b"ours\n", 0)


async def test_attach_before_start_misses_no_byte(subject):
    async def one():
        return (await subject.run(BOTH))[1]

    for _ in range(10):
        outputs = await asyncio.gather(*(one() for _ in range(5)))
        assert outputs == [{OUT: b"one\ntwo", ERR: b"three"}] * 5


@pytest.mark.parametrize("task", [BOTH, BYTES, NOTHING], ids=["text", "binary", "nothing"])
async def test_logs_replay_what_attach_gave(subject, task):
    container, output, _ = await subject.run(task)
    for follow in (False, True):
        assert await collect(await subject.engine.logs(container, follow=follow)) == output


async def test_logs_follow_a_running_container_from_its_first_byte_to_its_end(subject):
    container, stream = await subject.started(SLEEP)
    await collect(stream, enough=b"ready\n")
    following = asyncio.create_task(collect(await subject.engine.logs(container, follow=True)))
    await subject.engine.stop(container, 5)
    assert (await following)[OUT] == b"ready\n"


async def test_close_ends_a_pump(subject):
    _, stream = await subject.started(SLEEP)
    assert (await collect(stream, enough=b"ready\n"))[OUT] == b"ready\n"


async def test_close_from_elsewhere_ends_a_pump_that_waits(subject):
    _, stream = await subject.started(SLEEP)
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    pump = asyncio.create_task(stream.pump(lambda *_: loop.call_soon_threadsafe(begun.set)))
    await begun.wait()
    stream.close()
    await asyncio.wait_for(pump, 10)


async def test_what_write_raises_ends_the_pump(subject):
    def full(stream, data):
        raise OSError(28, "No space left on device")

    _, stream = await subject.started(BOTH)
    with pytest.raises(OSError, match="No space left"):
        await stream.pump(full)


async def test_stop_ends_a_container_by_term(subject):
    container, stream = await subject.started(SLEEP)
    await collect(stream, enough=b"ready\n")
    await subject.engine.stop(container, 30)
    assert (await subject.engine.wait(container)).exit_code == 143
    await subject.engine.stop(container, 30)


async def test_stop_kills_a_container_that_ignores_term(subject):
    container, stream = await subject.started(STUBBORN)
    await collect(stream, enough=b"ready\n")
    await subject.engine.stop(container, 1)
    assert (await subject.engine.wait(container)).exit_code == 137


async def test_several_may_wait_for_one_container(subject):
    container, _ = await subject.started(SLEEP)
    waiting = [asyncio.create_task(subject.engine.wait(container)) for _ in range(3)]
    await subject.engine.stop(container, 10)
    assert {(await each).exit_code for each in waiting} == {143}


async def test_a_wait_that_is_cancelled_lets_go_at_once(subject):
    container, _ = await subject.started(SLEEP)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(subject.engine.wait(container), 0.2)
    assert (await subject.engine.container(container)).state == "running"


async def test_a_container_that_was_never_started_did_not_end_well(subject):
    container = await subject.create(NOTHING)
    with pytest.raises(EngineError, match="never started"):
        await subject.engine.wait(container)


async def test_starting_a_running_container_changes_nothing(subject):
    container, _ = await subject.started(SLEEP)
    await subject.engine.start(container)
    assert (await subject.engine.container(container)).state == "running"


async def test_a_container_that_cannot_start_is_an_error_in_the_runtimes_words(subject):
    container = await subject.create(NOBODY)
    await subject.attach(container)
    with pytest.raises(EngineError, match="unable to find user nobody-here"):
        await subject.engine.start(container)
    assert (await subject.engine.container(container)).state == "created"


async def test_a_container_killed_for_its_memory_says_so(subject):
    _, _, status = await subject.run(GREEDY)
    assert (status.exit_code, status.oom_killed) == (137, True)


async def test_a_running_container_is_removed_and_removing_it_again_does_nothing(subject):
    container, _ = await subject.started(SLEEP)
    await subject.engine.remove(container)
    assert await subject.engine.container(container) is None
    await subject.engine.remove(container)
    await subject.engine.stop(container, 1)


async def test_several_may_remove_one_container(subject):
    container, _ = await subject.started(SLEEP)
    await asyncio.gather(*(subject.engine.remove(container) for _ in range(4)))
    assert await subject.engine.container(container) is None


@pytest.mark.parametrize(
    "verb",
    [
        lambda engine, name: engine.attach(name, b""),
        lambda engine, name: engine.logs(name, follow=True),
        lambda engine, name: engine.start(name),
        lambda engine, name: engine.wait(name),
        lambda engine, name: engine.stats(name),
        lambda engine, name: engine.mounts(name),
        lambda engine, name: engine.read_file(name, "/etc/passwd"),
        lambda engine, name: engine.has_path(name, "/etc/passwd"),
        lambda engine, name: engine.waits_at(name, "/etc/passwd"),
        lambda engine, name: engine.write_file(name, "/etc/passwd", b"", 0o644),
        lambda engine, name: engine.make_link(name, "/etc/passwd", "group"),
    ],
    ids=[
        "attach",
        "logs",
        "start",
        "wait",
        "stats",
        "mounts",
        "read_file",
        "has_path",
        "waits_at",
        "write_file",
        "make_link",
    ],
)
async def test_a_missing_container_is_told_as_such(subject, verb):
    with pytest.raises(ContainerNotFound):
        await verb(subject.engine, "sibling-test-missing")


async def test_a_taken_name_is_told_as_such(subject):
    container = await subject.create(NOTHING)
    with pytest.raises(ContainerExists):
        await subject.engine.create(container, subject.spec(NOTHING))


async def test_a_missing_image_is_told_as_such(subject):
    assert await subject.engine.image(NO_IMAGE) is None
    spec = subject.spec(NOTHING, image=NO_IMAGE)
    with pytest.raises(ImageUnavailable):
        await subject.engine.create("sibling-test-no-image", spec)


async def test_a_file_is_read_as_it_was_written(subject):
    container = await subject.create(NOTHING)
    assert await subject.engine.read_file(container, "/etc/sibling/none") is None
    await subject.engine.write_file(container, "/etc/sibling/some", BINARY, 0o600)
    assert await subject.engine.read_file(container, "/etc/sibling/some") == BINARY
    assert await subject.engine.has_path(container, "/etc/sibling/some")
    assert not await subject.engine.has_path(container, "/etc/sibling/none")


async def test_a_link_is_there_once_it_was_made(subject):
    container = await subject.create(NOTHING)
    await subject.engine.make_link(container, "/var/some/link", "/etc/passwd")
    assert await subject.engine.has_path(container, "/var/some/link")


async def test_an_image_is_tagged_found_by_its_domain_and_untagged(subject):
    subject.spec(NOTHING)
    tag = f"sibling.local/{subject.service}:latest"
    image = await subject.engine.image(BUSYBOX)
    await subject.engine.tag(BUSYBOX, tag)
    assert (await subject.engine.image(tag)) == image
    assert tag in await subject.engine.tags("sibling.local")
    assert tag not in await subject.engine.tags("sibling.loc")
    for _ in range(2):
        await subject.engine.untag(tag)
    assert await subject.engine.image(tag) is None
    assert await subject.engine.image(BUSYBOX) == image


async def test_what_is_not_there_cannot_be_tagged_or_pushed(subject):
    with pytest.raises(ImageUnavailable):
        await subject.engine.tag(NO_IMAGE, "sibling.local/none:1")
    with pytest.raises(PushFailed) as refusal:
        await subject.engine.push(NO_IMAGE, print)
    assert refusal.value.denied


async def test_a_running_container_gets_other_limits(subject):
    container, _ = await subject.started(SLEEP)
    await subject.engine.limit(container, cpus=0.5, memory=32 * MIB)
    with pytest.raises(ContainerNotFound):
        await subject.engine.limit("sibling-none", cpus=0.5, memory=32 * MIB)


async def test_containers_are_found_by_name_id_and_labels(subject):
    name = await subject.create(NOTHING)
    found = await subject.engine.container(name)
    assert (found.name, found.state, found.labels[LABEL_BUILD]) == (name, "created", "b1")
    assert found.created_at > 0
    assert (await subject.engine.container(found.id)).name == name
    (listed,) = await subject.engine.list({LABEL_SERVICE: subject.service, LABEL_BUILD: "b1"})
    assert (listed.id, listed.name, listed.state, listed.labels) == (found.id, name, "created", found.labels)
    assert await subject.engine.list({LABEL_SERVICE: subject.service, LABEL_BUILD: "b2"}) == []


@pytest.mark.parametrize(
    "verb",
    [
        lambda engine: engine.info(),
        lambda engine: engine.image(BUSYBOX),
        lambda engine: engine.pull(BUSYBOX, print),
        lambda engine: engine.push(BUSYBOX, print),
        lambda engine: engine.tag(BUSYBOX, BUSYBOX),
        lambda engine: engine.untag(BUSYBOX),
        lambda engine: engine.tags("sibling.local"),
        lambda engine: engine.limit("c", cpus=1, memory=32 * MIB),
        lambda engine: engine.ensure_network("sibling-test", {}),
        lambda engine: engine.ensure_volume("sibling-test", {}),
        lambda engine: engine.attach("c", b""),
        lambda engine: engine.logs("c", follow=False),
        lambda engine: engine.start("c"),
        lambda engine: engine.wait("c"),
        lambda engine: engine.stop("c", 1),
        lambda engine: engine.remove("c"),
        lambda engine: engine.container("c"),
        lambda engine: engine.list({}),
        lambda engine: engine.stats("c"),
        lambda engine: engine.read_file("c", "/x"),
        lambda engine: engine.write_file("c", "/x", b"", 0o644),
        lambda engine: engine.make_link("c", "/x", "y"),
    ],
)
async def test_an_engine_that_is_down_is_told_as_such(dead_engine, verb):
    with pytest.raises(EngineUnavailable, match="could not"):
        await verb(dead_engine)
