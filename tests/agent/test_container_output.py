"""However the connection to the engine breaks, the log has every byte of the container once."""

import asyncio
from contextlib import suppress

import pytest

from agent.build_log.logs import BuildLogs
from agent.container_output import SMALL, ContainerOutput
from agent.engine import ContainerSpec
from agent.errors import ContainerNotFound, EngineUnavailable
from tests.agent.service_steps import ERR, OUT
from tests.api.harness import until
from tests.fakes.memory_engine import MemoryEngine, Script

pytestmark = pytest.mark.anyio
BUILD = "01m85vnenmce764hdjbwf0zfeh"
NAME = "sibling-build"
FRAMES = ((OUT, b"one\n"), (ERR, b"oops"), (OUT, b"two "), (OUT, b"three\n"), (ERR, b"!\n"))
CUTS = range(len(FRAMES) + 1)
SPEC = ContainerSpec(
    image="image",
    entrypoint=(),
    env={},
    labels={},
    workdir="/",
    user=None,
    network="none",
    mounts=(),
    tmpfs={},
    cpus=1,
    memory=1,
    pids=1,
    shm_size=1,
    cap_add=(),
    log_size=1,
)


class Cut(Exception):
    pass


class CutStream:
    """A stream that ends after so many frames, in silence or with an error."""

    def __init__(self, stream, frames, error=None):
        self._stream = stream
        self._left = frames
        self._error = error

    async def pump(self, write):
        def some(stream, data):
            write(stream, data)
            self._left -= 1
            if not self._left:
                raise Cut

        with suppress(Cut):
            if self._left:
                await self._stream.pump(some)
        if self._error:
            raise self._error

    def close(self):
        self._stream.close()


class CuttingEngine(MemoryEngine):
    """Cuts the streams it gives, in that order, as `cuts` say; what comes after those is whole.

    Only an attached stream is ever cut in silence: the end of a `logs` over HTTP is marked.
    """

    def __init__(self, script, cuts=()):
        super().__init__({"image": script})
        self._cuts = list(cuts)

    async def attach(self, container, stdin):
        return self._cut(await super().attach(container, stdin))

    async def logs(self, container, *, follow):
        return self._cut(await super().logs(container, follow=follow))

    def read_again(self):
        return sum(verb == "logs" for verb, _ in self.calls)

    def _cut(self, stream):
        return CutStream(stream, *self._cuts.pop(0)) if self._cuts else stream


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """No test waits for what is given up in the end."""
    monkeypatch.setattr("agent.container_output.EXIT_WAIT", 0.01)
    monkeypatch.setattr("agent.container_output.RETRY", 0)


class Container:
    """A container that was just started, its log, and what follows the one into the other."""

    def __init__(self, folder, engine, *, patience=60.0, secrets=()):
        self.engine = engine
        self.logs = BuildLogs(folder)
        self.log = self.logs.open(BUILD, secrets=secrets, max_bytes=10**9)
        self.output = ContainerOutput(engine, NAME, self.log, patience)
        self.stream = None

    async def start(self):
        await self.engine.create(NAME, SPEC)
        self.stream = await self.engine.attach(NAME, b"")
        await self.engine.start(NAME)
        return self

    def text(self):
        self.log.finish()
        return self.logs.read(BUILD, 0, 10**8).data

    def written(self):
        """What each stream wrote; the order between the two is not kept when they are read again."""
        written = {OUT: b"", ERR: b""}
        self.log.finish()
        for entry in self.logs._entries_now(BUILD, 0, self.log.size):
            written[entry.stream] += entry.data
        return written


def in_whole(frames):
    return {each: b"".join(data for stream, data in frames if stream is each) for each in (OUT, ERR)}


@pytest.mark.parametrize("error", [None, EngineUnavailable("broken pipe")], ids=["silent", "told"])
@pytest.mark.parametrize("second", CUTS)
@pytest.mark.parametrize("first", CUTS)
async def test_the_log_is_whole_after_a_cut_at_any_frame(tmp_path, first, second, error):
    cuts = [(first, error), (second, EngineUnavailable("connection reset"))]
    engine = CuttingEngine(Script(steps=FRAMES, exit_code=3), cuts)
    container = await Container(tmp_path, engine).start()
    status = await container.output.to_end(container.stream)
    assert status.exit_code == 3
    assert container.written() == in_whole(FRAMES)
    assert container.output.lost


async def test_a_stream_that_ends_before_the_container_is_followed_again_from_where_it_ended(tmp_path):
    goes_on = asyncio.Event()
    frames = ((OUT, b"begun\n"), (ERR, b"warned\n"), goes_on, (OUT, b"done\n"))
    engine = CuttingEngine(Script(steps=frames), [(1, None)])
    container = await Container(tmp_path, engine).start()
    following = asyncio.create_task(container.output.to_end(container.stream))
    await until(lambda: container.log.raw == {OUT: 6, ERR: 7})
    assert engine.read_again() == 1
    goes_on.set()
    assert (await following).exit_code == 0
    assert container.text() == b"begun\nwarned\ndone\n"
    assert not container.output.lost


async def test_a_secret_that_a_cut_went_through_is_masked_once(tmp_path):
    cuts = [(1, None), (1, EngineUnavailable("connection reset"))]
    engine = CuttingEngine(Script(steps=((OUT, b"is hunter2-"), (OUT, b"secret.\n"))), cuts)
    container = await Container(tmp_path, engine, secrets=["hunter2-secret"]).start()
    await container.output.to_end(container.stream)
    text = container.text()
    assert text.startswith(b"is *")
    assert text.endswith(b"*.\n")
    assert b"hunter2" not in text
    assert b"secret" not in text


async def test_without_a_stream_what_the_log_lacks_is_read_from_the_engine(tmp_path):
    container = await Container(tmp_path, CuttingEngine(Script(steps=FRAMES))).start()
    container.log.write(OUT, b"one\ntw")
    await container.output.to_end(None)
    assert container.written() == in_whole(FRAMES)


@pytest.mark.parametrize(("size", "again"), [(SMALL, 1), (SMALL + 1, 0)])
async def test_only_small_output_is_read_again_if_it_ended_with_the_container(tmp_path, monkeypatch, size, again):
    monkeypatch.setattr("agent.container_output.SAME_MOMENT", 3600)
    engine = CuttingEngine(Script(steps=((OUT, b"x" * size),)))
    container = await Container(tmp_path, engine).start()
    await container.output.to_end(container.stream)
    assert engine.read_again() == again
    assert container.text() == b"x" * size


async def test_large_output_that_was_cut_before_the_end_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.container_output.SAME_MOMENT", 0)
    frames = ((OUT, b"x" * SMALL), (OUT, b"y" * SMALL), (ERR, b"z"))
    container = await Container(tmp_path, CuttingEngine(Script(steps=frames), [(2, None)])).start()
    await container.output.to_end(container.stream)
    assert container.written() == in_whole(frames)


async def test_an_engine_that_stays_away_is_given_up_with_its_own_words(tmp_path):
    script = Script(steps=((OUT, b"begun\n"), asyncio.Event()))
    engine = CuttingEngine(script, [(1, None)])
    container = await Container(tmp_path, engine, patience=0.05).start()
    await until(lambda: engine.containers[NAME].output)
    engine.up = False
    with pytest.raises(EngineUnavailable, match=r"did not recover within 0\.05 s: .*in memory is down"):
        await container.output.to_end(container.stream)
    assert container.output.lost
    assert container.text() == b"begun\n"


async def test_errors_with_calm_between_them_use_up_no_patience(tmp_path, monkeypatch):
    """Every error counts as a new trouble here, so that none is the one too many."""
    monkeypatch.setattr("agent.container_output.CALM", -1)
    engine = CuttingEngine(Script(steps=FRAMES))
    engine.failures["logs"] = [EngineUnavailable("away") for _ in range(20)]
    container = await Container(tmp_path, engine, patience=0).start()
    await container.output.to_end(None)
    assert container.written() == in_whole(FRAMES)


async def test_an_engine_that_fails_the_last_look_does_not_cost_the_end_of_the_log(tmp_path):
    engine = CuttingEngine(Script(steps=FRAMES), [(2, None)])
    engine.failures["wait"] = [EngineUnavailable("away")]
    engine.failures["logs"] = [EngineUnavailable("away")]
    container = await Container(tmp_path, engine).start()
    await container.output.to_end(container.stream)
    assert container.written() == in_whole(FRAMES)


async def test_a_container_that_someone_removes_is_an_error_at_once(tmp_path):
    """However patient one is, it will not come back."""
    script = Script(steps=((OUT, b"begun\n"), asyncio.Event()))
    container = await Container(tmp_path, CuttingEngine(script), patience=10**6).start()
    following = asyncio.create_task(container.output.to_end(container.stream))
    await until(lambda: container.log.raw[OUT])
    await container.engine.remove(NAME)
    with pytest.raises(ContainerNotFound):
        await following
    assert container.text() == b"begun\n"
