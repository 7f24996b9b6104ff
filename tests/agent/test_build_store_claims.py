"""Each build goes to one holder, in order and within its limits; a holder that was replaced is not believed."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.builds import Artifact, BuildState, Outcome, Reason, Result
from agent.errors import StaleClaim
from agent.requests import Concurrency
from tests.agent.store_steps import LEASE, SECRET, claim, finish, in_threads, submit

FAILURE = Outcome(result=Result.FAILURE, reason=Reason.EXIT_CODE, message="the command exited with 3", exit_code=3)


class TestClaim:
    def test_higher_priority_first_then_the_older(self, store):
        builds = [submit(store, priority=priority) for priority in (0, 5, -5, 5, 0, 100)]
        expected = sorted(builds, key=lambda build: (-build.request.priority, build.id))
        assert [claim(store).id for _ in builds] == [build.id for build in expected]
        assert store.claim("one", LEASE, lambda _: True) is None

    def test_a_claim_says_whose_it_is(self, store):
        build = submit(store)
        held = claim(store, "me", 77.5)
        assert held == store.get(build.id)
        assert (held.state, held.attempt, held.owner, held.lease_until) == (BuildState.PREPARING, 1, "me", 77.5)

    def test_nothing_overtakes_a_first_build_that_is_not_admitted(self, store):
        big = submit(store, priority=1)
        submit(store)
        asked = []
        assert store.claim("one", LEASE, lambda build: asked.append(build) or False) is None
        assert asked == [big]
        assert store.counts()[BuildState.QUEUED] == 2

    def test_a_build_whose_key_is_full_lets_others_pass(self, store):
        first = submit(store, priority=3, concurrency=Concurrency(key="k"))
        second = submit(store, priority=2, concurrency=Concurrency(key="k"))
        third = submit(store, priority=1)
        held = claim(store)
        assert (held.id, claim(store).id) == (first.id, third.id)
        assert store.claim("one", LEASE, lambda _: True) is None
        finish(store, store.advance(held, state=BuildState.RUNNING))
        assert claim(store).id == second.id

    def test_each_build_counts_by_its_own_limit(self, store):
        for priority, limit in ((3, 2), (2, 1), (1, 2), (0, 3)):
            submit(store, priority=priority, concurrency=Concurrency(key="k", limit=limit))
        assert [claim(store).request.priority for _ in range(3)] == [3, 1, 0]
        assert store.claim("one", LEASE, lambda _: True) is None

    def test_admission_may_take_its_time_since_nothing_is_locked_meanwhile(self, store):
        submit(store)
        with ThreadPoolExecutor(1) as other:
            held = store.claim("one", LEASE, lambda _: other.submit(submit, store).result().attempt == 0)
        assert held is not None
        assert store.counts()[BuildState.QUEUED] == 1

    def test_a_build_that_another_took_during_admission_is_not_claimed_twice(self, store):
        builds = {submit(store).id for _ in range(2)}
        taken = []

        def admits(_):
            if not taken:
                taken.append(claim(store, "fast"))
            return True

        held = store.claim("slow", LEASE, admits)
        assert {held.id, taken[0].id} == builds

    def test_a_key_that_another_filled_during_admission_is_respected(self, store):
        submit(store, concurrency=Concurrency(key="k"))
        taken = []

        def admits(_):
            if not taken:
                submit(store, priority=1, concurrency=Concurrency(key="k"))
                taken.append(claim(store, "fast"))
            return True

        assert store.claim("slow", LEASE, admits) is None

    def test_threads_never_get_the_same_build(self, store):
        builds = {submit(store).id for _ in range(60)}

        def take_all(number):
            mine = []
            while held := store.claim(str(number), LEASE, lambda _: True):
                mine.append(held)
            return mine

        held = [build for mine in in_threads(8, take_all) for build in mine]
        assert Counter(build.id for build in held) == Counter(builds)
        assert {build.attempt for build in held} == {1}

    def test_threads_never_exceed_a_concurrency_limit(self, store):
        for _ in range(40):
            submit(store, concurrency=Concurrency(key="k", limit=3))
        seen = []

        def work(number):
            while store.counts()[BuildState.QUEUED]:
                if held := store.claim(str(number), LEASE, lambda _: True):
                    seen.append(len(store.running()))
                    finish(store, held)

        in_threads(6, work)
        assert store.counts()[BuildState.FINISHED] == 40
        assert max(seen) <= 3


class TestHolding:
    def test_progress_is_kept_and_what_is_not_told_stays(self, store):
        submit(store)
        held = store.advance(claim(store), image_id="sha256:1", phases={"pull": 1.5})
        running = store.advance(held, state=BuildState.RUNNING, started_at=12.25)
        assert running == store.get(held.id)
        assert (running.state, running.started_at, running.attempt) == (BuildState.RUNNING, 12.25, 1)
        assert (running.image_id, running.phases) == ("sha256:1", {"pull": 1.5})
        assert store.advance(running, state=BuildState.RUNNING) == running

    @pytest.mark.parametrize("state", [BuildState.QUEUED, BuildState.PREPARING, BuildState.FINISHED])
    def test_a_state_never_goes_back_nor_ends_without_an_outcome(self, store, state):
        submit(store)
        held = store.advance(claim(store), state=BuildState.RUNNING)
        with pytest.raises(ValueError, match="cannot advance"):
            store.advance(held, state=state)
        assert store.get(held.id) == held

    def test_the_end_is_published_whole(self, store, clock):
        submit(store)
        held = claim(store)
        clock.now = 2000.5
        artifacts = (Artifact(path="a/b.txt", size=2**40), Artifact(path="\udcff", size=0))
        ended = store.finish(held, FAILURE, phases={"run": 2.0}, artifacts=artifacts)
        assert ended == store.get(held.id)
        assert (ended.state, ended.outcome, ended.finished_at) == (BuildState.FINISHED, FAILURE, 2000.5)
        assert (ended.phases, ended.artifacts, ended.lease_until) == ({"run": 2.0}, artifacts, None)

    def test_a_message_that_is_no_text_does_not_keep_a_build_from_ending(self, store):
        submit(store)
        ended = finish(store, claim(store), Outcome(result=Result.FAILURE, message="no file \udcff"))
        assert ended.outcome == Outcome(result=Result.FAILURE, message="no file \\udcff")

    def change(self, store, held):
        yield lambda: store.advance(held, image_id="sha256:stale")
        yield lambda: finish(store, held)
        yield lambda: store.requeue(held)

    @pytest.mark.parametrize(
        "replace",
        [
            lambda store, held: store.advance(held, state=BuildState.RUNNING),
            finish,
            lambda store, _held: store.adopt("one", LEASE),
            lambda store, held: store.requeue(held),
            lambda store, held: store.requeue(held) and claim(store, "two"),
            lambda store, held: finish(store, held) and store.delete_finished(LEASE),
        ],
        ids=["advanced", "finished", "adopted", "requeued", "claimed anew", "deleted"],
    )
    def test_a_holder_that_was_replaced_changes_nothing(self, store, replace):
        submit(store)
        held = claim(store)
        replace(store, held)
        before = store.list()
        for change in self.change(store, held):
            with pytest.raises(StaleClaim, match=held.id):
                change()
        assert store.list() == before

    def test_a_build_that_nobody_claimed_has_no_holder(self, store):
        build = submit(store)
        for change in self.change(store, build):
            with pytest.raises(StaleClaim):
                change()
        assert store.get(build.id) == build

    def test_one_of_many_holders_at_once_finishes(self, store):
        submit(store)
        held = claim(store)

        def end(number):
            try:
                return finish(store, held, Outcome(result=Result.SUCCESS, message=str(number)))
            except StaleClaim:
                return None

        ended = [build for build in in_threads(6, end) if build is not None]
        assert ended == [store.get(held.id)]

    def test_a_requeued_build_starts_from_nothing_but_keeps_its_secrets(self, store):
        build = submit(store, secrets={"A": SECRET})
        held = store.advance(claim(store), state=BuildState.RUNNING, started_at=1.0, image_id="i", phases={"pull": 1.0})
        queued = store.requeue(held)
        assert queued.attempt == 1
        assert queued == store.get(build.id)
        assert {name: getattr(queued, name) for name in ("state", "owner", "lease_until", "started_at")} == {
            "state": BuildState.QUEUED,
            "owner": None,
            "lease_until": None,
            "started_at": None,
        }
        assert (queued.image_id, queued.phases) == (None, {})
        assert claim(store).attempt == 2
        assert store.secrets(build.id) == {"A": SECRET}


class TestLeases:
    def test_renewing_tells_what_is_still_held(self, store):
        builds = [submit(store) for _ in range(4)]
        kept = [claim(store), claim(store)]
        claim(store, "other")
        finish(store, kept.pop())
        assert store.renew("one", 5000.0) == [kept[0].id]
        leases = {build.owner: build.lease_until for build in store.running()}
        assert leases == {"one": 5000.0, "other": LEASE}
        assert store.get(max(build.id for build in builds)).lease_until is None

    def test_adopting_fences_off_the_process_before(self, store):
        for _ in range(4):
            submit(store)
        preparing, running = claim(store), store.advance(claim(store), state=BuildState.RUNNING, started_at=5.0)
        claim(store, "other")
        adopted = store.adopt("one", 9000.0)
        assert [(build.state, build.attempt, build.lease_until) for build in adopted] == [
            (BuildState.PREPARING, 2, 9000.0),
            (BuildState.RUNNING, 2, 9000.0),
        ]
        assert adopted[1].started_at == 5.0
        for old in (preparing, running):
            with pytest.raises(StaleClaim):
                store.advance(old, image_id="stale")
        assert finish(store, adopted[0]).state is BuildState.FINISHED

    def test_claims_whose_lease_is_over_are_queued_again(self, store, clock):
        for _ in range(3):
            submit(store)
        gone = [claim(store, "gone", 2000.0), store.advance(claim(store, "gone", 2000.0), state=BuildState.RUNNING)]
        alive = claim(store, "alive", 2000.1)
        clock.now = 1999.9
        assert store.release_expired() == []
        clock.now = 2000.0
        released = store.release_expired()
        assert [(build.id, build.state, build.owner) for build in released] == [
            (build.id, BuildState.QUEUED, None) for build in gone
        ]
        assert store.running() == [alive]
        assert store.release_expired() == []

    def test_a_cancelled_build_ends_when_its_holder_is_gone(self, store, clock):
        submit(store, secrets={"A": SECRET})
        held = claim(store, "gone", 2000.0)
        store.request_cancel(held.id)
        clock.now = 2001.0
        (ended,) = store.release_expired()
        assert (ended.state, ended.finished_at) == (BuildState.FINISHED, 2001.0)
        assert (ended.outcome.result, ended.outcome.reason) == (Result.ABORTED, Reason.CANCELLED)
        assert store.secrets(ended.id) == {}
