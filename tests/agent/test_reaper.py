"""What is finished or unknown goes, and nothing that is in use or another's."""

import dataclasses
import os
import time

import pytest

from agent.builds import Outcome, Result, new_build_id
from agent.engine import LABEL_BUILD, LABEL_SERVICE, container_name
from agent.errors import AgentError, EngineUnavailable
from agent.policy import container_spec
from agent.requests import UploadedSource
from tests.agent.service_steps import OUT, Bench
from tests.fakes.memory_engine import Script

pytestmark = pytest.mark.anyio
DAY = 24 * 3600.0
SUCCESS = Outcome(result=Result.SUCCESS, exit_code=0)


@pytest.fixture
async def bench(tmp_path):
    async with Bench(
        tmp_path, {"quick": Script()}, retention={"builds": "1d"}, sources={"keep": "1d"}
    ).assembled() as bench:
        yield bench


async def put_container(bench, build):
    spec = container_spec(build, bench.settings.builds, bench.service.place)
    await bench.engine.create(container_name(build.id), spec)


def finished(bench, *, age=0.0):
    """A build that finished so many seconds ago, with a log and an artifact."""
    build = bench.claimed("quick", artifacts=["*"])
    log = bench.service.logs.open(build.id, secrets=(), max_bytes=1000)
    log.write(OUT, b"hello\n")
    log.finish()
    workspace = bench.workspaces.make(build.id)
    (workspace / "report").write_text("well")
    artifacts = bench.service.artifacts.collect(build.id, workspace, ["*"])
    bench.store._clock = lambda: time.time() - age
    return bench.store.finish(build, SUCCESS, phases={}, artifacts=artifacts)


def reaped(bench, kind):
    return bench.service.metrics.registry.get_sample_value("sibling_reaped_total", {"kind": kind}) or 0


def unused_upload(bench, content):
    """An upload that was used last two days ago."""
    source_id = bench.upload("file", content)
    long_ago = time.time() - 2 * DAY
    os.utime(bench.service.sources.path(source_id), (long_ago, long_ago))
    return source_id


async def test_a_finished_build_leaves_neither_container_nor_workspace(bench):
    build = finished(bench)
    await put_container(bench, build)
    await bench.reaper.look()
    assert not bench.engine.containers
    assert not bench.workspaces.ids()
    assert (reaped(bench, "container"), reaped(bench, "workspace")) == (1, 1)
    assert bench.log(build) == b"hello\n"
    assert bench.service.artifacts.ids() == [build.id]


async def test_what_belongs_to_no_known_build_goes(bench):
    unknown = dataclasses.replace(bench.submit(), id=new_build_id())
    await put_container(bench, unknown)
    bench.workspaces.make(unknown.id)
    await bench.reaper.look()
    assert not bench.engine.containers
    assert not bench.workspaces.ids()


async def test_what_a_build_of_the_queue_had_in_an_earlier_attempt_goes(bench):
    build = bench.store.requeue(bench.claimed())
    await put_container(bench, build)
    bench.workspaces.make(build.id)
    await bench.reaper.look()
    assert not bench.engine.containers
    assert not bench.workspaces.ids()


async def test_a_build_that_was_claimed_keeps_all_it_has(bench):
    build = bench.claimed()
    await put_container(bench, build)
    bench.workspaces.make(build.id)
    await bench.reaper.look()
    assert bench.container(build)
    assert bench.workspaces.ids() == [build.id]


async def test_what_its_runner_is_cleaning_up_is_left_to_it(bench):
    build = finished(bench)
    await put_container(bench, build)
    await dataclasses.replace(bench.reaper, running=lambda: {build.id}).look()
    assert bench.container(build)
    assert bench.workspaces.ids() == [build.id]


async def test_a_build_that_began_during_the_look_keeps_its_container(bench):
    """The list of containers is older than the list of builds, never the other way round."""
    build = bench.submit()
    await put_container(bench, build)
    listed = bench.engine.list

    async def list_then_claim(labels):
        containers = await listed(labels)
        bench.store.claim(bench.service.place.service_id, time.time() + 60, lambda _: True)
        return containers

    bench.engine.list = list_then_claim
    await bench.reaper.look()
    assert bench.container(build)


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"com.docker.compose.project": "shop"},
        {LABEL_BUILD: "01m85vnenmce764hdjbwf0zfeh"},
        {LABEL_SERVICE: "another", LABEL_BUILD: "01m85vnenmce764hdjbwf0zfeh"},
    ],
    ids=["bare", "compose", "no service", "another service"],
)
async def test_what_does_not_carry_the_label_of_this_service_is_never_touched(bench, labels):
    build = finished(bench)
    spec = container_spec(build, bench.settings.builds, bench.service.place)
    await bench.engine.create("foreign", dataclasses.replace(spec, labels=labels))
    await bench.reaper.look()
    assert "foreign" in bench.engine.containers
    assert not bench.called("remove")


async def test_an_old_build_is_forgotten_with_its_log_and_artifacts(bench):
    old = finished(bench, age=DAY + 60)
    young = finished(bench, age=DAY - 60)
    await bench.reaper.look()
    assert [build.id for build in bench.store.list()] == [young.id]
    assert bench.service.artifacts.ids() == [young.id]
    assert bench.log(young) == b"hello\n"
    assert bench.log(old) == b""
    assert not list((bench.data / "logs").rglob(f"{old.id}*"))
    assert reaped(bench, "build") == 1


async def test_more_old_builds_than_one_page_are_forgotten_in_one_look(bench, monkeypatch):
    whole_page = bench.store.delete_finished
    monkeypatch.setattr(bench.store, "delete_finished", lambda before, first: whole_page(before, limit=2, first=first))
    for _ in range(5):
        finished(bench, age=2 * DAY)
    await bench.reaper.look()
    assert bench.store.list() == []
    assert reaped(bench, "build") == 5


async def test_files_that_cannot_be_deleted_yet_are_deleted_at_a_later_look(bench, monkeypatch):
    for _ in range(3):
        finished(bench, age=2 * DAY)
    delete, failures = bench.service.artifacts.delete, [AgentError("busy")]

    def fail_once(build_id):
        if failures:
            raise failures.pop()
        delete(build_id)

    monkeypatch.setattr(bench.service.artifacts, "delete", fail_once)
    with pytest.raises(AgentError, match="busy"):
        await bench.reaper.look()
    await bench.reaper.look()
    assert bench.store.list() == []
    assert bench.service.artifacts.ids() == []


async def test_an_upload_goes_once_nobody_waits_for_it(bench):
    used, unused = unused_upload(bench, b"used"), unused_upload(bench, b"unused")
    waiting = bench.submit(source=UploadedSource(id=used))
    await bench.reaper.look()
    kept = {path.name for path in (bench.data / "sources").iterdir()}
    assert used in kept
    assert unused not in kept
    bench.store.request_cancel(waiting.id)
    await bench.reaper.look()
    assert not list((bench.data / "sources").iterdir())


async def test_files_are_done_though_the_engine_does_not_answer(bench):
    build = finished(bench)
    await put_container(bench, build)
    bench.engine.up = False
    with pytest.raises(EngineUnavailable):
        await bench.reaper.look()
    assert not bench.workspaces.ids()
    bench.engine.up = True
    await bench.reaper.look()
    assert not bench.engine.containers


async def test_a_second_look_finds_nothing_to_do(bench):
    await put_container(bench, finished(bench))
    await bench.reaper.look()
    removed = bench.called("remove")
    await bench.reaper.look()
    assert bench.called("remove") == removed
    assert reaped(bench, "workspace") == 1
