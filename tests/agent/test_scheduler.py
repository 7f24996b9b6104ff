"""Builds start in order and within limits, and each ends once, whatever happens to the service."""

import asyncio
import dataclasses

import pytest

from agent.builds import BuildState, Reason, Result
from agent.changes import Changes
from agent.host import Host
from agent.metrics import Metrics
from agent.requests import AgentRequest
from agent.scheduler import Scheduler
from tests.agent.service_steps import OUT, Bench, UnwritableStore, stays
from tests.api.harness import until
from tests.fakes.memory_engine import Script

pytestmark = pytest.mark.anyio
GIB = 1024**3
HOST = Host(cpus=2, memory_total=8 * GIB, memory_available=8 * GIB, disk_total=GIB, disk_free=GIB)


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """`turn` is one look at the queue."""
    monkeypatch.setattr("agent.scheduler.TICK", 0)
    monkeypatch.setattr("agent.container_output.EXIT_WAIT", 0.01)


class Queue:
    """A scheduler over a bench; `host` and `engine_up` are what it sees."""

    def __init__(self, bench, store=None):
        self.bench = bench
        self.host = HOST
        self.engine_up = True
        self.metrics = Metrics()
        runner = bench.runner if store is None else dataclasses.replace(bench.runner, store=store)
        self.scheduler = Scheduler(
            store=runner.store,
            runner_of=lambda _: runner,
            settings=bench.settings,
            place=bench.service.place,
            cancel=self.cancel,
            engine_up=lambda: self.engine_up,
            changes=Changes(),
            on_finished=self.metrics.finished,
            read_host=lambda: self.host,
        )

    async def cancel(self, build_id):
        await self.bench.service.cancel(build_id)
        self.scheduler.stop(build_id)

    async def running_after_a_turn(self):
        await self.scheduler.turn()
        return set(self.scheduler.running)

    async def all_done(self):
        """Take turns until no build is left."""

        async def idle():
            await self.scheduler.turn()
            counts = self.bench.store.counts()
            return not self.scheduler.running and counts[BuildState.QUEUED] == 0

        await until(idle)

    def counted(self, result):
        reason = "cancelled" if result is Result.ABORTED else ""
        value = self.metrics.registry.get_sample_value("sibling_builds_total", {"result": result, "reason": reason})
        return value or 0


def bench_of(folder, **queue):
    staying, goes_on = stays()
    bench = Bench(folder, {"quick": Script(steps=((OUT, b"hello\n"),)), "stays": staying}, queue={"slots": 2, **queue})
    bench.goes_on = goes_on
    return bench


@pytest.fixture
async def bench(tmp_path):
    async with bench_of(tmp_path).assembled() as bench:
        yield bench


@pytest.fixture
async def queue(bench):
    queue = Queue(bench)
    yield queue
    await queue.scheduler.close()


def order(bench):
    """The builds in the order of their containers."""
    return [container.name.removeprefix("sibling-") for container in bench.engine.created]


async def test_the_higher_priority_goes_first_and_then_the_older(tmp_path):
    async with bench_of(tmp_path, slots=1).assembled() as bench:
        queue = Queue(bench)
        low, first, second, high = [bench.submit(priority=priority).id for priority in (-1, 0, 0, 1)]
        await queue.all_done()
        assert order(bench) == [high, first, second, low]
        assert queue.counted(Result.SUCCESS) == 4
        await until(lambda: not bench.engine.containers)
        assert not bench.workspaces.ids()


async def test_an_agent_that_asks_for_too_much_holds_up_nobody(bench, queue):
    running = bench.submit("stays").id
    assert await queue.running_after_a_turn() == {running}
    greedy = AgentRequest(image="quick", node_labels=["image=quick,memory=900g"], memory=900 * 1024**3)
    refused, _ = bench.store.submit(greedy, "jenkins:queue", max_queued=10)
    await queue.running_after_a_turn()
    await until(lambda: bench.store.get(refused.id).state is BuildState.FINISHED)
    after = bench.submit("quick").id
    bench.goes_on.set()
    await queue.all_done()
    assert bench.store.get(after).outcome.result is Result.SUCCESS


async def test_no_more_builds_run_than_there_are_slots(bench, queue):
    builds = [bench.submit("stays").id for _ in range(3)]
    assert await queue.running_after_a_turn() == set(builds[:2])
    assert queue.scheduler.waiting_for == "all 2 slots are taken"
    bench.goes_on.set()
    await queue.all_done()
    assert queue.scheduler.waiting_for is None
    assert sorted(order(bench)) == builds


async def test_a_big_build_that_does_not_fit_is_not_overtaken(bench, queue):
    """8 GiB of memory, of which 1.5 times may be promised."""
    big, huge, small = [bench.submit("stays", memory=memory).id for memory in ("5g", "8g", "64m")]
    assert await queue.running_after_a_turn() == {big}
    assert queue.scheduler.waiting_for == "the memory limits of running builds leave no room for it"
    bench.goes_on.set()
    await queue.all_done()
    assert order(bench)[0] == big
    assert set(order(bench)) == {big, huge, small}


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ({"memory_available": 99 * 1024**2}, "the host has only 99 MiB of memory available"),
        ({"disk_free": 7 * 1024**2}, "the data volume has only 7 MiB left"),
    ],
)
async def test_nothing_starts_on_a_host_that_is_short(tmp_path, host, reason):
    async with bench_of(tmp_path, min_free_memory=100 * 1024**2, min_free_disk=100 * 1024**2).assembled() as bench:
        queue = Queue(bench)
        bench.submit()
        queue.host = dataclasses.replace(HOST, **host)
        assert not await queue.running_after_a_turn()
        assert queue.scheduler.waiting_for == reason
        queue.host = HOST
        await queue.all_done()
        assert queue.counted(Result.SUCCESS) == 1


async def test_a_build_alone_starts_even_if_it_wants_more_than_may_be_promised(tmp_path):
    async with bench_of(tmp_path, memory_overcommit=0.5).assembled() as bench:
        queue = Queue(bench)
        bench.submit(memory="8g")
        await queue.all_done()
        assert queue.counted(Result.SUCCESS) == 1


async def test_nothing_is_claimed_while_the_engine_is_away(bench, queue):
    build = bench.submit()
    queue.engine_up = False
    assert not await queue.running_after_a_turn()
    assert bench.store.get(build.id).state is BuildState.QUEUED
    queue.engine_up = True
    await queue.all_done()
    assert bench.store.get(build.id).outcome.result is Result.SUCCESS


async def test_a_full_concurrency_key_holds_its_own_builds_only(bench, queue):
    one, two = [bench.submit("stays", concurrency={"key": "deploy"}).id for _ in range(2)]
    other = bench.submit("stays").id
    assert await queue.running_after_a_turn() == {one, other}
    bench.goes_on.set()
    await queue.all_done()
    assert order(bench)[2] == two


async def test_a_build_that_is_cancelled_in_the_queue_never_runs(bench, queue):
    build = bench.submit()
    cancelled = await bench.service.cancel(build.id)
    assert (cancelled.outcome.result, cancelled.outcome.reason) == (Result.ABORTED, Reason.CANCELLED)
    assert not await queue.running_after_a_turn()
    assert not bench.engine.created
    assert bench.service.logs.complete(build.id)
    assert b"[sibling] ABORTED: " in bench.log(build)


async def test_a_build_that_runs_is_stopped_alone(bench, queue):
    stopped, other = bench.submit("stays"), bench.submit("stays")
    await queue.scheduler.turn()
    await bench.logged(stopped, b"begun\n")
    queue.scheduler.stop(stopped.id)
    queue.scheduler.stop("a build that is not known")
    await until(lambda: queue.scheduler.running == {other.id})
    assert bench.store.get(stopped.id).outcome.reason is Reason.CANCELLED
    assert queue.counted(Result.ABORTED) == 1
    assert bench.container(other).state == "running"


@pytest.mark.parametrize("times", [1, 5])
async def test_a_result_is_stored_once_the_store_can_be_written_again(bench, times):
    queue = Queue(bench, UnwritableStore(bench.store, "finish", times))
    build = bench.submit()
    await queue.all_done()
    assert bench.store.get(build.id).outcome.result is Result.SUCCESS
    assert len(bench.engine.created) == len(bench.called("start")) == 1
    assert bench.log(build) == b"hello\n"
    assert queue.counted(Result.SUCCESS) == 1


async def test_closing_leaves_containers_running_for_the_next_start(tmp_path):
    bench = bench_of(tmp_path)
    async with bench.assembled():
        build = bench.submit("stays")
        await bench.scheduler.turn()
        await bench.logged(build, b"begun\n")
    assert bench.container(build).state == "running"
    async with bench.assembled():
        await bench.scheduler.recover()
        assert bench.scheduler.running == {build.id}
        bench.goes_on.set()
        await until(lambda: not bench.scheduler.running)
        assert bench.store.get(build.id).outcome.result is Result.SUCCESS
        assert bench.log(build) == b"begun\ndone\n"
    assert len(bench.engine.created) == 1
    assert not bench.engine.containers


async def test_a_build_that_was_cancelled_before_a_crash_is_stopped_after_it(tmp_path):
    bench = bench_of(tmp_path)
    async with bench.assembled():
        build = bench.submit("stays")
        await bench.scheduler.turn()
        await bench.logged(build, b"begun\n")
        bench.store.request_cancel(build.id)
    async with bench.assembled():
        await bench.scheduler.recover()
        await until(lambda: not bench.scheduler.running)
        assert bench.store.get(build.id).outcome.reason is Reason.CANCELLED
    assert not bench.engine.containers


async def test_what_another_claimed_is_let_go_and_not_cleaned(bench, queue):
    build = bench.submit("stays")
    await queue.scheduler.turn()
    await bench.logged(build, b"begun\n")
    await until(lambda: bench.store.get(build.id).state is BuildState.RUNNING)
    bench.adopted()
    bench.goes_on.set()
    await until(lambda: not queue.scheduler.running)
    assert bench.container(build)
    assert bench.workspaces.ids() == [build.id]
    assert queue.counted(Result.SUCCESS) == 0


async def test_claims_are_renewed_before_those_that_expired_are_taken_back(bench, queue, monkeypatch):
    """As after the host was suspended for longer than a lease."""
    monkeypatch.setattr("agent.scheduler.LEASE", -1.0)
    build = bench.submit("stays")
    await queue.scheduler.turn()
    await bench.logged(build, b"begun\n")
    monkeypatch.setattr("agent.scheduler.LEASE", 60.0)
    queue.scheduler._renew_at = 0.0
    await queue.scheduler.turn()
    assert bench.store.get(build.id).state is BuildState.RUNNING
    assert queue.scheduler.running == {build.id}


async def test_a_hundred_builds_in_many_slots_each_run_once(tmp_path):
    async with bench_of(tmp_path, slots=20, memory_overcommit=100).assembled() as bench:
        queue = Queue(bench)
        builds = [bench.submit().id for _ in range(100)]
        await queue.all_done()
        assert sorted(order(bench)) == builds
        assert queue.counted(Result.SUCCESS) == 100
        assert {bench.log(bench.store.get(build)) for build in builds} == {b"hello\n"}


async def test_waking_ends_the_wait_for_something_to_change(bench, queue, monkeypatch):
    monkeypatch.setattr("agent.scheduler.TICK", 3600)
    turn = asyncio.create_task(queue.scheduler.turn())
    await until(lambda: queue.scheduler._renew_at)
    queue.scheduler.wake()
    await asyncio.wait_for(turn, 20)


async def test_a_fault_of_ours_ends_as_the_builds_result(bench):
    class Faulty:
        async def run(self, build, stop, *, again=False):
            raise ZeroDivisionError("of ours")

        async def clean(self, build):
            pass

    queue = Queue(bench)
    queue.scheduler._runner_of = lambda _: Faulty()
    build = bench.submit()
    await queue.all_done()
    ended = bench.store.get(build.id)
    assert (ended.outcome.reason, "of ours" in ended.outcome.message) == (Reason.INTERNAL, True)
