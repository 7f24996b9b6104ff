"""What the service answers while its parts fail, and that it refuses at once what could never run."""

import asyncio
import time

import pytest

from agent.builds import BuildState, Reason, Result
from agent.errors import InvalidRequest, NotFound, Rejected, TooLarge, Unavailable
from agent.requests import BuildRequest, GitSource, UploadedSource
from tests.agent.service_steps import CI, OUT, Bench, stays
from tests.api.harness import until
from tests.fakes.memory_engine import Script

pytestmark = pytest.mark.anyio
LONG = 60.0  # seconds; no test waits for them


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr("agent.service.RETRY_PAUSE", 0)


@pytest.fixture
async def bench(tmp_path):
    staying, goes_on = stays()
    images = {"quick": Script(steps=((OUT, b"hello\n"),)), "stays": staying}
    bench = Bench(tmp_path, images, queue={"max_queued": 3}, sources={"max_upload": 20_000})
    bench.goes_on = goes_on
    async with bench.assembled():
        yield bench


def request(image="quick", **parts):
    return BuildRequest(image=image, commands=["true"], **parts)


async def reason_of(service, name):
    return {check.name: check.reason for check in await service.checks()}[name]


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        ({"image": "library/UPPER"}, InvalidRequest, "UPPER"),
        ({"cpus": 3}, Rejected, "cpus 3 is over the 2"),
        ({"artifacts": ["../outside"]}, InvalidRequest, r"\.\./outside"),
        ({"source": UploadedSource(id=f"src-{'0' * 32}")}, InvalidRequest, "source: there is no source"),
        ({"source": GitSource(url="https://example.org/a.git", ref="a..b")}, InvalidRequest, r"a\.\.b"),
    ],
)
async def test_what_could_never_run_is_refused_and_not_queued(bench, parts, error, words):
    with pytest.raises(error, match=words):
        await bench.service.submit(request(**parts), CI)
    assert bench.store.list() == []


async def test_a_full_queue_refuses(bench):
    for _ in range(3):
        await bench.service.submit(request(), CI)
    with pytest.raises(Unavailable, match=r"queue\.max_queued is 3"):
        await bench.service.submit(request(), CI)


async def test_who_waits_for_a_build_is_told_when_it_ends(bench):
    async with bench.service.running():
        build, _ = await bench.service.submit(request("stays"), CI)
        waiting = [asyncio.create_task(bench.service.finished(build.id, LONG)) for _ in range(10)]
        await bench.logged(build, b"begun\n")
        assert not any(task.done() for task in waiting)
        bench.goes_on.set()
        ended = await asyncio.wait_for(asyncio.gather(*waiting), 20)
    assert {build.outcome.result for build in ended} == {Result.SUCCESS}


async def test_who_waits_for_a_build_of_the_queue_is_told_that_it_was_cancelled(bench):
    build, _ = await bench.service.submit(request(), CI)
    waiting = asyncio.create_task(bench.service.finished(build.id, LONG))
    await until(lambda: bench.service.changes._events)
    await bench.service.cancel(build.id)
    assert (await asyncio.wait_for(waiting, 20)).outcome.reason is Reason.CANCELLED


async def test_a_wait_that_is_over_answers_with_the_build_as_it_is(bench):
    build, _ = await bench.service.submit(request(), CI)
    assert (await bench.service.finished(build.id, 0.01)).state is BuildState.QUEUED
    with pytest.raises(NotFound):
        await bench.service.finished("01m85vnenmce764hdjbwf0zfeh", LONG)


async def test_a_cancel_asked_twice_or_too_late_changes_nothing(bench):
    build, _ = await bench.service.submit(request(), CI)
    once = await bench.service.cancel(build.id)
    assert await bench.service.cancel(build.id) == once
    assert bench.log(build).count(b"ABORTED") == 1
    value = bench.service.metrics.registry.get_sample_value(
        "sibling_builds_total", {"result": "ABORTED", "reason": "cancelled"}
    )
    assert value == 1


async def test_a_log_that_a_crash_left_open_is_ended_for_its_reader(bench):
    build = bench.claimed()
    log = bench.service.logs.open(build.id, secrets=(), max_bytes=1000)
    log.write(OUT, b"hello\n")
    bench.store.request_cancel(build.id)
    bench.store._clock = lambda: time.time() + 3600
    (ended,) = bench.store.release_expired()
    bench.service.logs._live.clear()
    assert await bench.service.logged(build.id) == ended
    assert bench.service.logs.complete(build.id)
    assert bench.log(build).startswith(b"hello\n[sibling] ABORTED: The build was cancelled")


async def test_an_upload_that_is_refused_leaves_nothing(bench):
    async def pieces():
        for _ in range(3):
            yield b"x" * 10_000

    with pytest.raises(TooLarge):
        await bench.service.upload(pieces())
    assert not list((bench.data / "sources").iterdir())


async def test_an_upload_whose_sender_goes_away_leaves_nothing(bench):
    async def pieces():
        yield b"x" * 10_000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await bench.service.upload(pieces())
    assert not list((bench.data / "sources").iterdir())


async def test_an_engine_that_went_away_and_came_back_is_seen_and_builds_go_on(bench, monkeypatch):
    monkeypatch.setattr("agent.engine_watch.PERIOD", 0.01)
    async with bench.service.running():
        bench.engine.up = False
        reason = await until(lambda: reason_of(bench.service, "engine"))
        assert "the engine in memory is down" in reason
        build, _ = await bench.service.submit(request(), CI)
        assert (await bench.service.build(build.id)).state is BuildState.QUEUED
        bench.engine.up = True
        assert (await bench.service.finished(build.id, LONG)).outcome.result is Result.SUCCESS
        assert await reason_of(bench.service, "engine") is None


async def test_a_loop_with_a_fault_is_named_and_the_others_go_on(bench, monkeypatch):
    """Even a fault of ours, of which no part knows what to do."""
    monkeypatch.setattr("agent.reaper.PERIOD", 0)
    broken = [True]

    async def fail_while_broken(labels):
        if broken:
            raise LookupError("a fault of ours")
        return []

    monkeypatch.setattr(bench.engine, "list", fail_while_broken)
    async with bench.service.running():
        reason = await until(lambda: reason_of(bench.service, "reaper"))
        assert "a fault of ours" in reason
        build, _ = await bench.service.submit(request(), CI)
        assert (await bench.service.finished(build.id, LONG)).outcome.result is Result.SUCCESS
        assert await reason_of(bench.service, "scheduler") is None
        broken.clear()

        async def well():
            return await reason_of(bench.service, "reaper") is None

        await until(well)


async def test_the_status_tells_what_runs_and_what_waits(bench):
    build, _ = await bench.service.submit(request("stays"), CI)
    before = await bench.service.status()
    assert (before.slots_used, before.counts[BuildState.QUEUED], before.waiting_for) == (0, 1, None)
    async with bench.service.running():
        await bench.logged(build, b"begun\n")
        after = await bench.service.status()
    assert (after.slots_used, after.counts[BuildState.QUEUED]) == (1, 0)
    assert after.engine_error is None


async def test_the_last_error_is_told_after_it_is_over(bench):
    before = await bench.service.health()
    assert before.text.endswith("Last error: none.")
    bench.service.watch.error = "the engine is away"
    during = await bench.service.health()
    assert during.reason == "engine: the engine is away"
    bench.service.watch.error = None
    after = await bench.service.health()
    assert after.reason is None
    assert after.text.endswith("Last error: engine: the engine is away.")
