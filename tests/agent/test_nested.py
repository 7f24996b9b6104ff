"""What a build asks for from inside: it never waits for its parent's own slot, and never outlives it."""

import pytest

from agent import callers
from agent.builds import AgentRecord, BuildState, Job, Lane, Result
from agent.errors import InvalidRequest, Rejected, Unavailable
from agent.requests import AgentRequest, BuildRequest, ImageBuildRequest, ImagePushRequest
from agent.stop import Stop
from tests.agent.service_steps import CI
from tests.agent.test_scheduler import Queue, bench_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(tmp_path):
    async with bench_of(tmp_path, slots=1).assembled() as bench:
        yield bench


def inside(build):
    return CI.model_copy(update={"build": build.id})


def request(image="quick", **parts):
    return BuildRequest(image=image, commands=["true"], **parts)


async def test_a_child_starts_though_its_parent_has_the_only_slot(bench):
    queue = Queue(bench)
    parent = bench.submit("stays")
    assert await queue.running_after_a_turn() == {parent.id}
    child, _ = await bench.service.submit(request("stays"), inside(parent))
    waiting, _ = await bench.service.submit(request(), inside(parent))
    other = bench.submit("quick")
    assert await queue.running_after_a_turn() == {parent.id, child.id}
    assert (child.lane, child.parent, child.created_by) == (Lane.NESTED, parent.id, "ci")
    bench.goes_on.set()
    await queue.all_done()
    # The one of its parent's lane that waited for the same slot was cancelled with it, or had its turn before.
    assert bench.store.get(waiting.id).state is BuildState.FINISHED
    assert bench.store.get(other.id).outcome.result is Result.SUCCESS


async def test_children_end_with_their_parent(bench):
    queue = Queue(bench)
    parent = bench.submit("quick")
    child, _ = await bench.service.submit(request("stays"), inside(parent))
    await queue.all_done()
    ended = bench.store.get(child.id)
    assert ended.outcome.result is Result.ABORTED
    await queue.scheduler.close()


async def test_the_reaper_ends_those_whose_parent_ended_unseen(bench):
    parent = bench.claimed("quick")
    child, _ = await bench.service.submit(request(), inside(parent))
    await bench.reaper.look()
    assert bench.store.get(child.id).state is BuildState.QUEUED
    await bench.runner.run(parent, Stop())
    await bench.reaper.look()
    assert bench.store.get(child.id).outcome.result is Result.ABORTED


async def test_a_grandchild_is_refused_and_an_image_of_one_is_not(bench):
    parent = bench.submit("quick")
    child, _ = await bench.service.submit(request(), inside(parent))
    with pytest.raises(Rejected, match="cannot ask for another one"):
        await bench.service.submit(request(), inside(child))
    image = ImageBuildRequest(dockerfile_text="FROM scratch")
    made, _ = await bench.service.submit(image, inside(child))
    assert made.lane is Lane.IMAGES


async def test_a_draining_service_still_takes_what_a_running_build_asks_for(bench):
    parent = bench.submit("quick")
    bench.service.drain()
    with pytest.raises(Unavailable):
        await bench.service.submit(request(), CI)
    child, created = await bench.service.submit(request(), inside(parent))
    assert created
    assert child.parent == parent.id


async def test_a_caller_sees_its_own_images_alone(bench):
    with pytest.raises(InvalidRequest, match=r"no image .* of yours"):
        await bench.service.submit(
            ImagePushRequest(images=["registry.example/x:1"]), CI.model_copy(update={"scopes": {"admin"}})
        )
    for image in ("sibling.local/x/y:latest", "sibling.local/y", "SIBLING.LOCAL/x/y"):
        with pytest.raises(InvalidRequest):
            await bench.service.submit(request(image), CI)


@pytest.mark.parametrize("field", ["cache_from", "cache_to"])
async def test_a_cache_is_for_those_who_may_push_there(bench, field):
    image = ImageBuildRequest(dockerfile_text="FROM scratch", **{field: ["type=registry,ref=registry.example/cache"]})
    with pytest.raises(Rejected) as refusal:
        await bench.service.submit(image, CI)
    assert refusal.value.rule == "grants"


async def test_only_a_build_has_a_workspace(bench):
    image = ImageBuildRequest(context={"type": "workspace"})
    with pytest.raises(InvalidRequest, match="only a build has a workspace"):
        await bench.service.submit(image, CI)


class TestCallers:
    async def test_a_build_calls_under_its_posters_name(self, bench):
        build = bench.submit()
        caller = await callers.inside(bench.store, build.id)
        assert (caller.name, caller.job, caller.build) == ("ci", None, build.id)

    async def test_an_agent_calls_as_the_job_that_runs_on_it(self, bench, monkeypatch):
        build, _ = bench.store.submit(
            AgentRequest(image="quick", node_labels=["image=quick"]), "jenkins:queue", max_queued=9
        )
        monkeypatch.setattr(callers, "_PATIENCE", 0)
        with pytest.raises(Unavailable, match="has not told yet"):
            await callers.inside(bench.store, build.id)
        held = bench.store.claim("s", 1e12, lambda _: True)
        job = Job(url="http://jenkins/prefix/job/team-a/job/app%20x/12/", number=12, name="team-a » app x #12")
        bench.store.advance(held, agent=AgentRecord(job=job))
        caller = await callers.inside(bench.store, build.id)
        assert (caller.name, caller.job) == ("job:team-a/app x", "team-a/app x")

    async def test_a_job_without_a_proper_address_is_nobody(self, bench):
        build, _ = bench.store.submit(
            AgentRequest(image="quick", node_labels=["image=quick"]), "jenkins:queue", max_queued=9
        )
        held = bench.store.claim("s", 1e12, lambda _: True)
        job = Job(url="http://jenkins/job/team-a/job/..%2Fother/12/", number=12, name="x")
        bench.store.advance(held, agent=AgentRecord(job=job))
        with pytest.raises(Rejected):
            await callers.inside(bench.store, build.id)
