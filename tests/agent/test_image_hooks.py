"""Hooks run after a push: in order, with what they are given and no more, and they end with the image build."""

import itertools
import json
import os
import subprocess
import time
from contextlib import asynccontextmanager

import pytest

from agent.builds import BuildState, ImageRecord, Lane, Outcome, Reason, Result
from agent.errors import PushFailed, Rejected, Unavailable
from agent.images import names
from agent.requests import BuildRequest, HookRequest, ImageBuildRequest, ImagePushRequest
from agent.tokens import Scope, Token
from tests.agent.service_steps import CI, LEASE, OUT, Bench, stays
from tests.api.harness import until
from tests.fakes.memory_engine import Script, Step

pytestmark = pytest.mark.anyio
ONE, TWO = "registry.example/team/app:1", "registry.example/team/app:2"
REPOSITORY = "registry.example/team/app"
QUICK = {"image": "quick", "argv": ["done", "{tag}"]}


class Hooked:
    """A service with hooks, and images that a build of its caller made."""

    def __init__(self, folder, hooks, **settings):
        staying, self.goes_on = stays()
        blocking, self.unblock = stays()
        images = {
            "quick": Script(steps=((OUT, b"hello\n"),)),
            "fails": Script(exit_code=3),
            "echo": Script(steps=(Step.ECHO,)),
            "stays": staying,
            "blocks": blocking,
        }
        grants = {"all": {"tokens": ["*"], "jobs": ["**"], "push": ["**"]}}
        self.bench = Bench(folder, images, hooks=hooks, grants=grants, **settings)

    @asynccontextmanager
    async def running(self):
        async with self.bench.assembled():
            self.service, self.store = self.bench.service, self.bench.service.store
            async with self.service.running():
                yield self

    def made(self, *tags, caller=CI):
        """An image build of the caller's that has ended, whose image the engine has."""
        request = ImageBuildRequest(dockerfile_text="FROM scratch", tags=list(tags))
        build, _ = self.store.submit(request, caller.name, max_queued=100)
        held = self.store.claim(self.service.place.service_id, time.time() + LEASE, lambda _: True, lane=Lane.IMAGES)
        assert held.id == build.id
        record = ImageRecord(id="sha256:made", size=1, tags=tags)
        ended = Outcome(result=Result.SUCCESS, exit_code=0)
        self.store.finish(held, ended, phases={}, artifacts=(), image=record)
        self.bench.engine.tagged[names.private(self.service.place.service_id, build.id)] = "sha256:made"

    async def push(self, *tags, caller=CI):
        """A push of these that was begun."""
        self.made(*tags, caller=caller)
        build, _ = await self.service.submit(ImagePushRequest(images=list(tags)), caller)
        return build

    async def pushed(self, *tags, caller=CI):
        """A push of these that has ended."""
        return await self.ended(await self.push(*tags, caller=caller))

    async def ended(self, build):
        ended = await self.service.finished(build.id, 20)
        assert ended.state is BuildState.FINISHED
        return ended

    def hooks(self):
        """Their builds, in the order that they were begun in."""
        return [build for build in reversed(self.store.list()) if isinstance(build.request, HookRequest)]

    def container(self, build):
        (found,) = [each for each in self.bench.engine.created if each.name.endswith(build.id)]
        return found

    def arguments(self, build):
        """What the container's program is called with: what a shell makes of the task that `enter` is given."""
        script = 'eval "$(cat)"; printf "%s\\0" "$@"'
        done = subprocess.run(["sh", "-c", script], input=self.container(build).stdin, capture_output=True, check=True)
        return done.stdout.decode().split("\0")[:-1]

    async def stands(self):
        """The hook that runs and stays."""
        await until(lambda: self.hooks() and self.hooks()[-1].state is BuildState.RUNNING)
        return self.hooks()[-1]

    def log(self, build):
        return self.bench.log(build).decode()


@pytest.fixture
def hooked(tmp_path):
    def make(hooks, **settings):
        return Hooked(tmp_path, hooks, **settings).running()

    return make


async def test_they_run_one_after_another_in_the_order_of_their_names(hooked):
    async with hooked({"b-sbom": QUICK, "a-sign": QUICK, "c-tell": QUICK}) as service:
        push = await service.pushed(ONE, TWO)
        assert push.outcome.result is Result.SUCCESS
        assert [(hook.created_by, hook.request.argv[1]) for hook in service.hooks()] == [
            (f"hook:{name}", tag) for name in ("a-sign", "b-sbom", "c-tell") for tag in (ONE, TWO)
        ]
        ends = [(hook.started_at, hook.finished_at) for hook in service.hooks()]
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(ends))
        assert push.finished_at >= ends[-1][1]
        assert push.phases["hooks"] > 0


async def test_each_is_a_build_of_its_own_that_the_log_of_the_push_tells_of(hooked):
    async with hooked({"sign": QUICK}) as service:
        push = await service.pushed(ONE)
        (hook,) = service.hooks()
        assert (hook.parent, hook.created_by, hook.request.labels) == (push.id, "hook:sign", {"hook": "sign"})
        assert hook.lane is Lane.HOOKS
        assert "hello\n" in service.log(hook)
        digest = push.image.pushed[0].digest
        assert f"hook sign: build {hook.id}, on {REPOSITORY}@{digest}\n" in service.log(push)
        assert "hook sign: SUCCESS in " in service.log(push)
        await until(lambda: not service.bench.engine.containers)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{reference}", f"{REPOSITORY}@{{0.digest}}"),
        ("{tag}", ONE),
        ("{digest}", "{0.digest}"),
        ("{repository}", REPOSITORY),
        ("{build}", "{1}"),
        ("{caller}", "ci"),
        ('{{"tag": "{tag}"}}', f'{{{{"tag": "{ONE}"}}}}'),
    ],
)
async def test_a_template_is_filled_with_what_was_pushed(hooked, template, value):
    async with hooked({"a": {"image": "quick", "argv": ["x", template]}}) as service:
        push = await service.pushed(ONE)
        expected = value.format(push.image.pushed[0], push.id)
        assert service.arguments(service.hooks()[0]) == ["x", expected]


async def test_one_that_is_the_same_for_two_tags_runs_once(hooked):
    other = "registry.example/other/app:1"
    hook = {"image": "quick", "argv": ["x", "{reference}"]}
    async with hooked({"a": hook}) as service:
        push = await service.pushed(ONE, TWO, other)
        digest = push.image.pushed[0].digest
        commands = [build.request.argv[1] for build in service.hooks()]
        assert commands == [f"{REPOSITORY}@{digest}", f"registry.example/other/app@{digest}"]


@pytest.mark.parametrize("job", ["team/$(touch pwned)", "team/`id`", "team/a'b\"c", "team/a b;id", "{tag}", "-x *"])
async def test_a_hostile_value_stays_one_argument(hooked, job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    caller = Token(id="", name=f"job:{job}", job=job, scopes=frozenset({Scope.WRITE}), created_at=0)
    hook = {"image": "quick", "argv": ["sh", "-c", 'echo "$1"', "sh", "by {caller}"]}
    async with hooked({"a": hook}) as service:
        push = await service.pushed(ONE, caller=caller)
        assert push.outcome.result is Result.SUCCESS
        assert service.arguments(service.hooks()[0]) == ["sh", "-c", 'echo "$1"', "sh", f"by job:{job}"]
    assert not (tmp_path / "pwned").exists()


async def test_only_images_that_it_is_for_are_given_to_it(hooked):
    hook = {**QUICK, "push": ["registry.example/team/*:1", "docker.io/library/**"]}
    async with hooked({"a": hook}) as service:
        push = await service.pushed(ONE, TWO, "registry.example/teams/app:1", "docker.io/library/app:1")
        assert push.outcome.result is Result.SUCCESS
        assert [build.request.argv[1] for build in service.hooks()] == [ONE, "docker.io/library/app:1"]


async def test_nothing_runs_if_a_push_fails(hooked):
    async with hooked({"a": QUICK}) as service:
        service.bench.engine.failures["push"] = [PushFailed("denied", denied=True)]
        push = await service.pushed(ONE)
        assert push.outcome.reason is Reason.PUSH
        assert service.hooks() == []


async def test_one_that_fails_fails_the_push_and_no_other_follows(hooked):
    async with hooked({"a": {"image": "fails", "argv": ["x"]}, "b": QUICK}) as service:
        push = await service.pushed(ONE, TWO)
        (hook,) = service.hooks()
        assert (push.outcome.result, push.outcome.reason) == (Result.FAILURE, Reason.HOOK)
        told = f"pushed {ONE}, {TWO}, but hook a failed: exit code 3 (build {hook.id})"
        assert push.outcome.message == told
        assert [each.reference for each in push.image.pushed] == [ONE, TWO]
        assert f", build {hook.id}: exit code 3\n" in service.log(push)


async def test_one_that_is_not_required_is_told_of_in_the_log_alone(hooked):
    hooks = {"a": {"image": "fails", "argv": ["x"], "required": False}, "b": QUICK}
    async with hooked(hooks) as service:
        push = await service.pushed(ONE)
        assert push.outcome == Outcome(result=Result.SUCCESS, exit_code=0)
        assert [hook.created_by for hook in service.hooks()] == ["hook:a", "hook:b"]
        assert "hook a: FAILURE in " in service.log(push)


async def test_one_whose_image_cannot_be_had_fails_the_push(hooked):
    async with hooked({"a": {"image": "missing", "argv": ["x"]}}) as service:
        push = await service.pushed(ONE)
        assert push.outcome.reason is Reason.HOOK
        assert "hook a failed: could not pull image" in push.outcome.message


async def test_one_that_somebody_cancels_has_failed(hooked):
    async with hooked({"a": {"image": "stays", "argv": ["x"]}}) as service:
        push = await service.push(ONE)
        hook = await service.stands()
        await service.service.cancel(hook.id)
        ended = await service.ended(push)
        assert ended.outcome.reason is Reason.HOOK
        assert ended.outcome.message == f"pushed {ONE}, but hook a failed: cancelled (build {hook.id})"


async def test_a_timeout_of_its_own_ends_it(hooked):
    async with hooked({"a": {"image": "stays", "argv": ["x"], "timeout": 0.2, "required": False}}) as service:
        push = await service.pushed(ONE)
        assert push.outcome.result is Result.SUCCESS
        assert service.hooks()[0].outcome.reason is Reason.TIMEOUT


async def test_a_cancel_of_the_push_ends_it(hooked):
    async with hooked({"a": {"image": "stays", "argv": ["x"]}, "b": QUICK}) as service:
        push = await service.push(ONE)
        hook = await service.stands()
        await service.service.cancel(push.id)
        assert (await service.ended(push)).outcome.reason is Reason.CANCELLED
        assert (await service.ended(hook)).outcome.reason is Reason.CANCELLED
        assert len(service.hooks()) == 1
        await until(lambda: not service.bench.engine.containers)


class TestSecrets:
    @pytest.fixture
    def secret_file(self, tmp_path):
        file = tmp_path / "secret"
        file.touch(0o600)
        file.write_text("hunter2-s3cret\n")
        return file

    async def test_one_reaches_the_container_and_nothing_that_can_be_seen(self, hooked, secret_file):
        hook = {"image": "echo", "argv": ["x"], "env": {"A": "1"}, "secret_files": {"KEY": str(secret_file)}}
        async with hooked({"a": hook}) as service:
            push = await service.pushed(ONE)
            (build,) = service.hooks()
            container = service.container(build)
            assert b"export KEY=hunter2-s3cret\n" in container.stdin
            assert container.spec.env["A"] == "1"
            assert "export KEY=****\n" in service.log(build)
            seen = [container.spec, build.request, service.log(build), service.log(push), push.request]
            assert "hunter2" not in str(seen)

    async def test_a_new_one_counts_at_the_next_run(self, hooked, secret_file):
        async with hooked({"a": {"image": "quick", "argv": ["x"], "secret_files": {"K": str(secret_file)}}}) as service:
            await service.pushed(ONE)
            secret_file.write_text("another")
            await service.pushed(TWO)
            assert b"export K=another\n" in service.container(service.hooks()[-1]).stdin

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda file: file.chmod(0o640), "Others can use "),
            (lambda file: file.unlink(), "cannot be read: No such file"),
            (lambda file: file.write_text("\n"), "is empty"),
            (lambda file: file.write_text("a\0hunter2"), "must not hold a NUL byte"),
            (lambda file: file.write_text("hunter2" * 10_000), "secrets are over 65536 bytes"),
        ],
    )
    async def test_one_that_cannot_be_used_fails_the_push_and_nothing_runs(self, hooked, secret_file, spoil, words):
        async with hooked({"a": {**QUICK, "secret_files": {"K": str(secret_file)}}}) as service:
            spoil(secret_file)
            push = await service.pushed(ONE)
            assert push.outcome.reason is Reason.HOOK
            assert "but hook a failed: hooks.a" in push.outcome.message
            assert words in push.outcome.message
            assert "hunter2" not in push.outcome.message + service.log(push)
            assert service.hooks() == []


class TestRegistryLogin:
    @pytest.fixture
    def registries(self, tmp_path):
        def table(name, password):
            file = tmp_path / f"password-{name}"
            file.touch(0o600)
            file.write_text(password)
            return {"host": f"{name}.example", "username": "ci", "password_file": str(file)}

        return {"a": table("registry", "hunter2-s3cret"), "b": table("other", "0ther-s3cret")}

    async def test_it_is_that_of_the_images_registry_alone_while_the_hook_runs(self, hooked, registries):
        hook = {"image": "stays", "argv": ["x"], "registry_login": True}
        async with hooked({"a": hook}, registries=registries) as service:
            push = await service.push(ONE)
            build = await service.stands()
            workspace = service.bench.workspaces.path(build.id)
            file = workspace / ".docker" / "config.json"
            auth = {"auth": "Y2k6aHVudGVyMi1zM2NyZXQ="}  # ci:hunter2-s3cret
            assert json.loads(file.read_text()) == {"auths": {"registry.example": auth}}
            assert file.stat().st_mode & 0o777 == 0o600
            container = service.container(build)
            assert container.spec.env["DOCKER_CONFIG"] == "/workspace/.docker"
            seen = str([container.spec, container.stdin, build.request])
            assert "s3cret" not in seen
            assert "Y2k6" not in seen
            service.goes_on.set()
            assert (await service.ended(push)).outcome.result is Result.SUCCESS
            await until(lambda: not workspace.exists())

    async def test_no_form_of_it_is_in_the_log(self, hooked, registries):
        words = b"Y2k6aHVudGVyMi1zM2NyZXQ= ci:hunter2-s3cret hunter2-s3cret\n"
        async with hooked({"a": {"image": "says", "argv": ["x"], "registry_login": True}}, registries=registries) as it:
            it.bench.engine.images["docker.io/library/says:latest"] = Script(steps=((OUT, words),))
            it.bench.engine.present.add("docker.io/library/says:latest")
            await it.pushed(ONE)
            assert "**** **** ****\n" in it.log(it.hooks()[0])

    async def test_a_registry_without_a_login_has_none(self, hooked, registries):
        hook = {"image": "stays", "argv": ["x"], "registry_login": True}
        async with hooked({"a": hook}, registries=registries) as service:
            push = await service.push("third.example/app:1")
            workspace = service.bench.workspaces.path((await service.stands()).id)
            assert json.loads((workspace / ".docker" / "config.json").read_text()) == {"auths": {}}
            service.goes_on.set()
            assert (await service.ended(push)).outcome.result is Result.SUCCESS

    async def test_who_is_not_to_have_it_has_nothing(self, hooked, registries):
        async with hooked({"a": {"image": "stays", "argv": ["x"]}}, registries=registries) as service:
            push = await service.push(ONE)
            build = await service.stands()
            assert list(service.bench.workspaces.path(build.id).iterdir()) == []
            assert "DOCKER_CONFIG" not in service.container(build).spec.env
            service.goes_on.set()
            await service.ended(push)


class TestQueue:
    async def test_one_waits_for_no_slot_of_other_builds(self, hooked, monkeypatch):
        monkeypatch.setattr(os, "cpu_count", lambda: 1)  # of which there are as many slots for images
        async with hooked({"a": QUICK}, queue={"slots": 1}) as service:
            blocking = service.bench.submit("blocks")
            request = BuildRequest(image="blocks", commands=["true"])
            nested, _ = service.store.submit(request, "ci", parent=blocking.id, max_queued=100)
            for build in (blocking, nested):
                await service.bench.logged(build, b"begun\n")
            assert (await service.pushed(ONE)).outcome.result is Result.SUCCESS
            service.unblock.set()

    async def test_a_queue_that_is_full_for_callers_is_not_for_hooks(self, hooked):
        hooks = {"a": {"image": "stays", "argv": ["x"]}, "b": QUICK}
        async with hooked(hooks, queue={"slots": 1, "max_queued": 2}) as service:
            push = await service.push(ONE)
            await service.stands()
            blocking = service.bench.submit("blocks")
            service.service.scheduler.wake()
            await service.bench.logged(blocking, b"begun\n")
            request = BuildRequest(image="blocks", commands=["true"])
            for _ in range(2):
                await service.service.submit(request, CI)
            with pytest.raises(Unavailable):
                await service.service.submit(request, CI)
            service.goes_on.set()
            assert (await service.ended(push)).outcome.result is Result.SUCCESS
            service.unblock.set()

    async def test_its_image_is_the_admins_choice_and_no_callers(self, hooked):
        async with hooked({"a": QUICK}, builds={"allowed_images": ["registry.example/**"]}) as service:
            assert (await service.pushed(ONE)).outcome.result is Result.SUCCESS
            with pytest.raises(Rejected, match="is not allowed here"):
                await service.service.submit(BuildRequest(image="quick", commands=["true"]), CI)

    async def test_it_can_ask_for_nothing_itself(self, hooked):
        async with hooked({"a": {"image": "stays", "argv": ["x"]}}) as service:
            push = await service.push(ONE)
            hook = await service.stands()
            with pytest.raises(Rejected, match="a hook has no identity here"):
                await service.service.inside(hook.id)
            service.goes_on.set()
            await service.ended(push)


async def test_after_a_kill_the_push_and_its_hooks_are_begun_anew_and_what_ran_is_ended(tmp_path):
    service = Hooked(tmp_path, {"a": QUICK, "b": {"image": "stays", "argv": ["x"]}})
    async with service.running():
        push = await service.push(ONE)
        await until(lambda: len(service.hooks()) == 2)
        old = await service.stands()
    assert service.container(old).state == "running"  # as a kill leaves it
    async with service.running():
        await until(lambda: len(service.hooks()) == 4)
        await service.stands()
        assert (await service.ended(old)).outcome.reason is Reason.CANCELLED
        service.goes_on.set()
        ended = await service.ended(push)
        assert (ended.outcome.result, ended.attempt) == (Result.SUCCESS, 2)
        results = [(hook.created_by, hook.outcome.result) for hook in service.hooks()]
        assert results == [
            ("hook:a", Result.SUCCESS),
            ("hook:b", Result.ABORTED),
            ("hook:a", Result.SUCCESS),
            ("hook:b", Result.SUCCESS),
        ]
        assert f"ending build {old.id}, a hook that an earlier attempt began\n" in service.log(push)
