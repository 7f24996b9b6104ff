"""A build's container is started once, whatever fails in between, and its end is told as it was."""

import asyncio
import dataclasses
import time

import pytest

from agent.builds import BuildState, Reason, Result
from agent.engine import container_name
from agent.errors import EngineError, EngineUnavailable, StaleClaim, StoreUnavailable
from agent.stop import Stop
from tests.agent.service_steps import OUT, Bench, UnwritableStore, stays
from tests.api.harness import until
from tests.fakes.memory_engine import MemoryEngine, Script, Step

pytestmark = pytest.mark.anyio
SECRET = "correct-horse-battery-93417"


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr("agent.runner.ENGINE_PAUSE", 0)
    monkeypatch.setattr("agent.container_output.EXIT_WAIT", 0.01)
    monkeypatch.setattr("agent.container_output.RETRY", 0)


class LyingEngine(MemoryEngine):
    """Starts a container, and says that it could not."""

    async def start(self, container):
        await super().start(container)
        raise EngineUnavailable("the connection was reset")


@pytest.fixture
async def bench(tmp_path):
    staying, goes_on = stays()
    images = {
        "quick": Script(steps=((OUT, b"hello\n"),)),
        "fails": Script(steps=((OUT, b"no\n"),), exit_code=3),
        "greedy": Script(exit_code=137, oom_killed=True),
        "broken": Script(start_error="exec format error"),
        "missing": Script(present=False, pull_error="manifest unknown"),
        "remote": Script(present=False),
        "stubborn": dataclasses.replace(staying, ignores_term=True),
        "echo": Script(steps=(Step.ECHO,)),
        "stays": staying,
    }
    bench = Bench(tmp_path, images, engine={"patience": 0.5, "stop_grace": 0})
    bench.goes_on = goes_on
    async with bench.assembled():
        yield bench


async def ran(bench, build, stop=None, **how):
    return await asyncio.wait_for(bench.runner.run(build, stop or Stop(), **how), 20)


async def test_a_build_that_went_well_leaves_its_log_and_nothing_else(bench):
    build = bench.claimed("remote")
    finished = await ran(bench, build)
    assert (finished.outcome.result, finished.outcome.exit_code) == (Result.SUCCESS, 0)
    assert finished.image_id == "sha256:docker.io/library/remote:latest"
    assert finished.phases.keys() == {"queued", "pull", "create", "start", "run"}
    assert bench.service.logs.complete(build.id)
    await bench.runner.clean(finished)
    assert not bench.engine.containers
    assert not bench.workspaces.ids()


@pytest.mark.parametrize(
    ("image", "result", "reason", "words"),
    [
        ("fails", Result.FAILURE, Reason.EXIT_CODE, "exit code 3"),
        ("greedy", Result.FAILURE, Reason.OUT_OF_MEMORY, "out of memory: it may use 64 MiB"),
        ("broken", Result.NOT_BUILT, Reason.ENGINE, "exec format error"),
        ("missing", Result.NOT_BUILT, Reason.IMAGE, "manifest unknown"),
    ],
)
async def test_what_went_wrong_is_told_in_the_result_and_at_the_end_of_the_log(bench, image, result, reason, words):
    build = bench.claimed(image, memory="64m")
    outcome = (await ran(bench, build)).outcome
    assert (outcome.result, outcome.reason) == (result, reason)
    assert words in outcome.message
    last = bench.log(build).decode().splitlines()[-1]
    assert last.startswith(f"[sibling] {result}: ")
    assert words in last


async def test_a_fault_of_ours_ends_the_build_and_says_so(bench):
    bench.engine.failures["create"] = [LookupError("no such thing")]
    outcome = (await ran(bench, bench.claimed())).outcome
    assert outcome.reason is Reason.INTERNAL
    assert "no such thing" in outcome.message


async def test_secrets_reach_the_container_alone(bench):
    build = bench.claimed("echo", secrets={"TOKEN": SECRET})
    await ran(bench, build)
    container = bench.container(build)
    assert f"export TOKEN={SECRET}".encode() in container.stdin
    assert SECRET not in repr(container.spec)
    assert SECRET.encode() not in bench.log(build)
    assert b"export TOKEN=" in bench.log(build)


async def test_a_build_that_is_cancelled_before_its_start_never_starts(bench):
    stop = Stop()
    stop.ask(Reason.CANCELLED)
    outcome = (await ran(bench, bench.claimed(), stop)).outcome
    assert (outcome.result, outcome.reason, outcome.exit_code) == (Result.ABORTED, Reason.CANCELLED, None)
    assert not bench.engine.created


@pytest.mark.parametrize(("image", "code"), [("stays", 143), ("stubborn", 137)])
async def test_a_build_that_is_cancelled_while_it_runs_is_stopped(bench, image, code):
    build, stop = bench.claimed(image), Stop()
    running = asyncio.create_task(ran(bench, build, stop))
    await bench.logged(build, b"begun\n")
    stop.ask(Reason.CANCELLED)
    outcome = (await running).outcome
    assert (outcome.result, outcome.reason, outcome.exit_code) == (Result.ABORTED, Reason.CANCELLED, code)
    assert b"begun\n" in bench.log(build)


async def test_a_stop_that_the_engine_refuses_is_asked_for_again(bench):
    bench.engine.failures["stop"] = [EngineError("busy") for _ in range(5)]
    build, stop = bench.claimed("stays"), Stop()
    stopping = asyncio.create_task(ran(bench, build, stop))
    await bench.logged(build, b"begun\n")
    stop.ask(Reason.CANCELLED)
    assert (await stopping).outcome.reason is Reason.CANCELLED
    assert len(bench.called("stop")) == 6


async def test_a_build_is_stopped_at_its_timeout(bench):
    outcome = (await ran(bench, bench.claimed("stays", timeout=0.05))).outcome
    assert (outcome.result, outcome.reason) == (Result.ABORTED, Reason.TIMEOUT)
    assert outcome.message == "stopped after its timeout of 0.05 s"


async def test_a_container_that_someone_removes_ends_the_build(bench):
    build = bench.claimed("stays")
    running = asyncio.create_task(ran(bench, build))
    await bench.logged(build, b"begun\n")
    await bench.engine.remove(container_name(build.id))
    outcome = (await running).outcome
    assert (outcome.result, outcome.reason) == (Result.FAILURE, Reason.ENGINE)
    assert "no container" in outcome.message


async def test_an_engine_that_stays_away_ends_a_running_build_with_its_words(bench):
    bench.engine.failures["pump"] = [EngineUnavailable("broken pipe")]
    bench.engine.failures["logs"] = [EngineUnavailable("the engine is gone") for _ in range(10**5)]
    build = bench.claimed("stays")
    finished = await ran(bench, build)
    outcome = finished.outcome
    assert (outcome.result, outcome.reason) == (Result.FAILURE, Reason.ENGINE)
    assert "did not recover within 0.5 s: the engine is gone" in outcome.message
    assert finished.started_at is not None
    assert b"FAILURE: the engine did not recover" in bench.log(build)


async def test_an_engine_that_stays_away_before_the_start_means_not_built(bench):
    bench.engine.up = False
    build = bench.claimed()
    outcome = (await ran(bench, build)).outcome
    assert (outcome.result, outcome.reason) == (Result.NOT_BUILT, Reason.ENGINE)
    assert not bench.engine.created


@pytest.mark.parametrize("verb", ["image", "create", "attach", "start", "container"])
async def test_an_engine_that_comes_back_runs_the_build_once(bench, verb):
    bench.engine.failures[verb] = [EngineUnavailable("away") for _ in range(3)]
    build = bench.claimed()
    outcome = (await ran(bench, build, again=verb == "container")).outcome
    assert outcome.result is Result.SUCCESS
    assert bench.log(build) == b"hello\n"
    assert [container.state for container in bench.engine.created].count("exited") == 1


async def test_a_start_whose_answer_was_lost_is_not_repeated(tmp_path):
    async with Bench(
        tmp_path, {"quick": Script(steps=((OUT, b"hello\n"),))}, engine_class=LyingEngine
    ).assembled() as bench:
        build = bench.claimed()
        outcome = (await ran(bench, build)).outcome
        assert outcome.result is Result.SUCCESS
        assert len(bench.engine.created) == len(bench.called("start")) == 1
        assert bench.log(build) == b"hello\n"


async def test_a_wait_for_the_engine_ends_with_a_cancel(bench):
    bench.engine.failures["create"] = [EngineUnavailable("away") for _ in range(10**5)]
    build, stop = bench.claimed(), Stop()
    waiting = asyncio.create_task(ran(bench, build, stop))
    await until(lambda: len(bench.called("create")) > 1)
    stop.ask(Reason.CANCELLED)
    assert (await waiting).outcome.result is Result.ABORTED


async def begun(bench, image="stays", *, started_at=None, **parts):
    """A build whose container was started and followed for a while by a service that then died."""
    build = bench.claimed(image, **parts)
    running = asyncio.create_task(ran(bench, build))
    await bench.logged(build, b"begun\n")
    await until(lambda: bench.store.get(build.id).state is BuildState.RUNNING)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    adopted = bench.adopted()
    return dataclasses.replace(adopted, started_at=started_at) if started_at else adopted


async def test_a_build_is_gone_on_with_after_a_crash(bench):
    build = await begun(bench)
    going_on = asyncio.create_task(ran(bench, build))
    await until(lambda: bench.called("logs"))
    bench.goes_on.set()
    finished = await going_on
    assert finished.outcome.result is Result.SUCCESS
    assert bench.log(build) == b"begun\ndone\n"
    assert len(bench.engine.created) == len(bench.called("start")) == 1
    assert finished.phases.keys() >= {"queued", "create", "start", "run"}


async def test_what_ended_while_nobody_looked_is_told_as_it_ended(bench):
    build = await begun(bench)
    bench.goes_on.set()
    await until(lambda: bench.container(build).state == "exited")
    assert (await ran(bench, build)).outcome.result is Result.SUCCESS
    assert bench.log(build) == b"begun\ndone\n"


async def test_the_timeout_counts_from_the_start_and_not_from_the_recovery(bench):
    build = await begun(bench, timeout=60, started_at=time.time() - 61)
    finished = await ran(bench, build)
    assert finished.outcome.reason is Reason.TIMEOUT
    assert finished.phases["run"] > 60


async def test_a_recovered_build_whose_container_is_gone_does_not_run_again(bench):
    build = await begun(bench)
    await bench.engine.remove(container_name(build.id))
    outcome = (await ran(bench, build)).outcome
    assert (outcome.result, outcome.reason) == (Result.FAILURE, Reason.ENGINE)
    assert "its container is gone" in outcome.message
    assert len(bench.engine.created) == 1


@pytest.mark.parametrize("verb", ["create", "attach", "start"])
async def test_what_was_not_started_before_a_crash_is_started_after_it(bench, verb):
    """A container that was only created is not used: its standard input may be lost."""
    bench.engine.failures[verb] = [asyncio.CancelledError()]
    build = bench.claimed()
    with pytest.raises(asyncio.CancelledError):
        await ran(bench, build)
    outcome = (await ran(bench, bench.adopted())).outcome
    assert outcome.result is Result.SUCCESS
    assert bench.log(build) == b"hello\n"
    assert len(bench.engine.containers) == 1


async def test_a_build_that_another_claimed_is_left_alone(bench):
    build = bench.claimed("stays")
    running = asyncio.create_task(ran(bench, build))
    await bench.logged(build, b"begun\n")
    await until(lambda: bench.store.get(build.id).state is BuildState.RUNNING)
    bench.adopted()
    bench.goes_on.set()
    with pytest.raises(StaleClaim):
        await running
    assert bench.container(build)
    assert bench.workspaces.ids() == [build.id]
    assert bench.store.get(build.id).state is BuildState.RUNNING


async def test_a_claim_that_was_lost_before_the_container_ran_leaves_it_as_well(bench):
    build = bench.claimed()
    bench.adopted()
    with pytest.raises(StaleClaim):
        await ran(bench, build)
    assert bench.container(build)
    assert bench.store.get(build.id).state is BuildState.PREPARING


@pytest.mark.parametrize("method", ["advance", "finish"])
async def test_what_could_not_be_stored_is_stored_later_without_another_run(bench, method):
    runner = dataclasses.replace(bench.runner, store=UnwritableStore(bench.store, method))
    build = bench.claimed("fails")
    with pytest.raises(StoreUnavailable):
        await runner.run(build, Stop())
    finished = await runner.run(bench.store.get(build.id), Stop(), again=True)
    assert (finished.outcome.reason, finished.outcome.exit_code) == (Reason.EXIT_CODE, 3)
    assert len(bench.engine.created) == len(bench.called("start")) == 1
    log = bench.log(build)
    assert log.count(b"no\n") == log.count(b"FAILURE") == 1


async def test_artifacts_are_kept_from_a_build_that_ended(bench):
    build = bench.claimed("stays", artifacts=["*.txt"])
    running = asyncio.create_task(ran(bench, build))
    await bench.logged(build, b"begun\n")
    (bench.workspaces.path(build.id) / "report.txt").write_text("all well")
    bench.goes_on.set()
    finished = await running
    assert [(artifact.path, artifact.size) for artifact in finished.artifacts] == [("report.txt", 8)]
    assert bench.service.artifacts.open(build.id, "report.txt").read_text() == "all well"


async def test_artifacts_that_cannot_be_kept_fail_a_build_that_went_well(tmp_path):
    script, goes_on = stays()
    async with Bench(tmp_path, {"stays": script}, builds={"max_artifacts": 7}).assembled() as bench:
        build = bench.claimed("stays", artifacts=["*.txt"])
        running = asyncio.create_task(ran(bench, build))
        await bench.logged(build, b"begun\n")
        (bench.workspaces.path(build.id) / "report.txt").write_text("too long")
        goes_on.set()
        finished = await running
        assert (finished.outcome.reason, finished.outcome.exit_code) == (Reason.ARTIFACTS, 0)
        assert "builds.max_artifacts" in finished.outcome.message
        assert finished.artifacts == ()


async def test_a_removal_that_the_engine_refuses_is_tried_again(bench):
    build = bench.claimed()
    await ran(bench, build)
    bench.engine.failures["remove"] = [EngineError("busy")]
    await bench.runner.clean(build)
    assert not bench.engine.containers
    assert not bench.workspaces.ids()
