"""Whatever happens in whatever order, the store on the disk says what a dictionary in memory would."""

import functools
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from agent.build_store import BuildStore
from agent.builds import Artifact, Build, BuildState, Outcome, Reason, Result
from agent.errors import Conflict, NotFound, StaleClaim, Unavailable
from agent.requests import BuildRequest, Concurrency
from tests.agent.store_steps import KEY

CLAIMED = (BuildState.PREPARING, BuildState.RUNNING)
MAX_QUEUED = 6

owners = st.sampled_from(["one", "two"])
leases = st.sampled_from([5.0, 50.0])
outcomes = st.builds(
    Outcome,
    result=st.sampled_from(Result),
    reason=st.none() | st.sampled_from(Reason),
    message=st.none() | st.text(max_size=5),
    exit_code=st.none() | st.integers(0, 255),
)
requests = st.builds(
    BuildRequest,
    image=st.just("busybox"),
    commands=st.just(["make"]),
    secrets=st.dictionaries(st.just("TOKEN"), st.sampled_from(["a", "b"])),
    priority=st.integers(-1, 1),
    concurrency=st.none() | st.builds(Concurrency, key=st.sampled_from("kl"), limit=st.integers(1, 2)),
)


@functools.cache
def empty_store():
    """An empty file, since migrating anew for each example would take most of the time."""
    path = Path(tempfile.mkdtemp()) / "builds.db"
    BuildStore(path, KEY).close()
    content = path.read_bytes()
    shutil.rmtree(path.parent)
    return content


def masked(request):
    return BuildRequest.model_validate_json(request.model_dump_json())


def aborted(build, now, message):
    outcome = Outcome(result=Result.ABORTED, reason=Reason.CANCELLED, message=message)
    return replace(build, state=BuildState.FINISHED, lease_until=None, finished_at=now, outcome=outcome)


def waiting(build):
    nothing = {"owner": None, "lease_until": None, "started_at": None, "image_id": None, "phases": {}}
    return replace(build, state=BuildState.QUEUED, **nothing)


class StoreMachine(RuleBasedStateMachine):
    """`self.builds` is what the store must say. Every rule does the same to both and compares what comes back."""

    holds = Bundle("holds")  # what every claimer ever got in its hands, most of it stale by now

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        (self.folder / "builds.db").write_bytes(empty_store())
        self.now = 1000.0
        self.builds: dict[str, Build] = {}
        self.requests: dict[str, BuildRequest] = {}  # with their secrets
        self.keys: dict[str, str] = {}  # idempotency key -> build
        self.store = self.open()

    def open(self):
        return BuildStore(self.folder / "builds.db", KEY, lambda: self.now)

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.folder)

    def having(self, *states):
        return sorted((build for build in self.builds.values() if build.state in states), key=lambda build: build.id)

    def keep(self, build):
        self.builds[build.id] = build
        return build

    def is_held(self, hold):
        now = self.builds.get(hold.id)
        return now is not None and now.state in CLAIMED and (now.state, now.attempt) == (hold.state, hold.attempt)

    @contextmanager
    def held_or_refused(self, hold):
        if self.is_held(hold):
            yield
        else:
            with pytest.raises(StaleClaim):
                yield

    def has_room(self, build):
        limit = build.request.concurrency
        if limit is None:
            return True
        taken = [other for other in self.having(*CLAIMED) if other.request.concurrency is not None]
        return sum(other.request.concurrency.key == limit.key for other in taken) < limit.limit

    @initialize(target=holds, asked=st.lists(requests, min_size=3, max_size=5))
    def begin(self, asked):
        for request in asked:
            self.submit(request, None)
        return multiple(*(self.take(owner, 50.0) for owner in ("one", "two") if self.ready()))

    @rule(request=requests, key=st.sampled_from([None, None, "i", "j"]))
    def submit(self, request, key):
        ask = functools.partial(self.store.submit, request, "ci", idempotency_key=key, max_queued=MAX_QUEUED)
        if key in self.keys:
            before = self.keys[key]
            if request.model_dump() == self.requests[before].model_dump():
                assert ask() == (self.builds[before], False)
            else:
                with pytest.raises(Conflict):
                    ask()
        elif len(self.having(BuildState.QUEUED)) >= MAX_QUEUED:
            with pytest.raises(Unavailable):
                ask()
        else:
            self.accept(*ask(), request, key)

    def accept(self, build, created, request, key):
        expected = Build(
            id=build.id,
            state=BuildState.QUEUED,
            request=masked(request),
            created_by="ci",
            created_at=self.now,
        )
        assert (build, created) == (expected, True)
        assert build.id not in self.builds
        self.keep(build)
        self.requests[build.id] = request
        if key is not None:
            self.keys[key] = build.id

    def ready(self):
        """What may be claimed, in its order."""
        queued = filter(self.has_room, self.having(BuildState.QUEUED))
        return sorted(queued, key=lambda build: -build.request.priority)

    def take(self, owner, lease):
        first = self.ready()[0]
        until = self.now + lease
        changes = {"state": BuildState.PREPARING, "owner": owner, "lease_until": until}
        claimed = self.store.claim(owner, until, lambda build: build == first)
        assert claimed == self.keep(replace(first, attempt=first.attempt + 1, **changes))
        return claimed

    @rule(target=holds, owner=owners, lease=leases, count=st.integers(1, 3))
    def claim(self, owner, lease, count):
        return multiple(*(self.take(owner, lease) for _ in range(count) if self.ready()))

    @rule()
    def claim_what_is_not_admitted(self):
        asked = []
        assert self.store.claim("one", self.now, asked.append) is None
        assert asked == self.ready()[:1]

    @rule(
        target=holds,
        hold=holds,
        running=st.booleans(),
        told=st.fixed_dictionaries(
            {},
            optional={
                "started_at": st.floats(0, 2000),
                "image_id": st.just("sha256:1"),
                "phases": st.dictionaries(st.sampled_from(["pull", "run"]), st.floats(0, 10)),
            },
        ),
    )
    def advance(self, hold, running, told):
        state = BuildState.RUNNING if running or hold.state is BuildState.RUNNING else None
        with self.held_or_refused(hold):
            advanced = self.store.advance(hold, state=state, **told)
            assert advanced == self.keep(replace(self.builds[hold.id], state=state or hold.state, **told))
            return advanced
        return multiple()

    @rule(hold=holds, outcome=outcomes, phases=st.dictionaries(st.just("run"), st.floats(0, 10)))
    def finish(self, hold, outcome, phases):
        artifacts = (Artifact(path="a", size=1),)
        with self.held_or_refused(hold):
            ended = self.store.finish(hold, outcome, phases=phases, artifacts=artifacts)
            changes = {"outcome": outcome, "phases": phases, "artifacts": artifacts, "finished_at": self.now}
            assert ended == self.keep(
                replace(self.builds[hold.id], state=BuildState.FINISHED, lease_until=None, **changes)
            )

    def released(self, build):
        if build.cancel_requested:
            return aborted(build, self.now, "The build was cancelled when no service held it any more.")
        return waiting(build)

    @rule(hold=holds)
    def requeue(self, hold):
        with self.held_or_refused(hold):
            assert self.store.requeue(hold) == self.keep(self.released(self.builds[hold.id]))

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0, 50.0]))
    def release_expired(self, seconds):
        self.now += seconds
        over = [build for build in self.having(*CLAIMED) if build.lease_until <= self.now]
        assert self.store.release_expired() == [self.keep(self.released(build)) for build in over]

    @rule(owner=owners, lease=leases)
    def renew(self, owner, lease):
        held = [build for build in self.having(*CLAIMED) if build.owner == owner]
        assert self.store.renew(owner, self.now + lease) == [build.id for build in held]
        for build in held:
            self.keep(replace(build, lease_until=self.now + lease))

    @rule(target=holds, owner=owners, lease=leases)
    def adopt(self, owner, lease):
        held = [build for build in self.having(*CLAIMED) if build.owner == owner]
        adopted = self.store.adopt(owner, self.now + lease)
        until = self.now + lease
        assert adopted == [self.keep(replace(build, attempt=build.attempt + 1, lease_until=until)) for build in held]
        return multiple(*adopted)

    @rule()
    def crash(self):
        self.store.close()
        self.store = self.open()

    @precondition(lambda self: self.builds)
    @rule(data=st.data())
    def cancel(self, data):
        build_id = data.draw(st.sampled_from(sorted(self.builds)))
        build = self.builds[build_id]
        if build.state is BuildState.QUEUED:
            build = aborted(build, self.now, "The build was cancelled before it started.")
        elif build.state in CLAIMED:
            build = replace(build, cancel_requested=True)
        assert self.store.request_cancel(build_id) == self.keep(build)

    @rule(age=st.sampled_from([0.0, 10.0]), limit=st.integers(1, 3))
    def delete_finished(self, age, limit):
        old = [build for build in self.having(BuildState.FINISHED) if build.finished_at < self.now - age]
        deleted = self.store.delete_finished(self.now - age, limit)
        assert len(deleted) == min(limit, len(old))
        oldest = sorted(build.finished_at for build in old)[: len(deleted)]
        assert sorted(self.builds.pop(build_id).finished_at for build_id in deleted) == oldest
        self.keys = {key: build_id for key, build_id in self.keys.items() if build_id not in deleted}

    @rule()
    def look(self):
        assert self.store.running() == self.having(*CLAIMED)
        assert self.store.counts() == {state: len(self.having(state)) for state in BuildState}
        assert list(self.store.unfinished()) == self.having(BuildState.QUEUED, *CLAIMED)[::-1]
        for build in self.builds.values():
            gone = build.state is BuildState.FINISHED
            assert self.store.secrets(build.id) == ({} if gone else self.requests[build.id].secret_values())

    @invariant()
    def every_build_is_as_the_model_says(self):
        assert self.store.list(limit=10_000) == self.having(*BuildState)[::-1]

    @invariant()
    def nothing_waits_that_is_held_or_cancelled(self):
        for build in self.having(BuildState.QUEUED):
            assert (build.cancel_requested, build.owner, build.lease_until) == (False, None, None)

    @invariant()
    def what_is_deleted_is_gone(self):
        for build_id in self.requests.keys() - self.builds.keys():
            with pytest.raises(NotFound):
                self.store.request_cancel(build_id)
            del self.requests[build_id]


StoreMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
TestStore = StoreMachine.TestCase
