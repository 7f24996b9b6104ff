"""The queue keeps what it accepted, tells it as it is, and gives secrets only to whom they are due."""

import base64
from collections import Counter

import pytest
from cryptography.fernet import Fernet

from agent.build_store import _PAGE, BuildStore
from agent.builds import BaseImage, BuildState, ImageRecord, Lane, Reason, Result
from agent.errors import Conflict, InvalidSettings, NotFound, StoreUnavailable, Unavailable
from agent.requests import GIT_PASSWORD, BuildRequest, Concurrency, GitSource, ImageBuildRequest
from tests.agent.store_steps import KEY, LEASE, SECRET, SUCCESS, claim, finish, in_threads, request, submit


class TestSubmit:
    def test_a_build_is_read_back_as_it_was_asked_for(self, store, clock):
        asked = request(
            env={"LANG": "é\n'\"\\"},
            secrets={"TOKEN": SECRET},
            source=GitSource(url="https://host/repo.git", username="me", password="pass"),
            timeout="1h30m",
            cpus=0.5,
            memory="512m",
            artifacts=["**/*.xml"],
            labels={"job": "日本"},
            priority=7,
            concurrency=Concurrency(key="deploy", limit=2),
        )
        build, created = store.submit(asked, "ci", max_queued=1)
        masked = asked.model_dump(mode="json")
        assert created
        assert store.get(build.id) == build
        assert build.request.model_dump(mode="json") == masked
        assert (build.state, build.created_by, build.created_at) == (BuildState.QUEUED, "ci", clock.now)
        assert (build.attempt, build.owner, build.outcome, build.artifacts) == (0, None, None, ())

    def test_the_record_holds_no_secret_but_the_store_gives_them_out(self, store):
        build = submit(store, secrets={"A": SECRET}, source=GitSource(url="https://h/r", password="pass"))
        assert SECRET not in repr(build.request.secret_values())
        assert store.secrets(build.id) == {"A": SECRET, GIT_PASSWORD: "pass"}
        assert store.secrets(submit(store).id) == {}

    def test_a_full_queue_refuses(self, store):
        for _ in range(2):
            store.submit(request(), "ci", max_queued=2)
        with pytest.raises(Unavailable, match="2 builds wait"):
            store.submit(request(), "ci", max_queued=2)
        claim(store)
        assert store.submit(request(), "ci", max_queued=2)[1]

    def test_a_queue_is_filled_exactly_by_many_at_once(self, store):
        def fill(_):
            accepted = 0
            for _ in range(5):
                try:
                    store.submit(request(), "ci", max_queued=10)
                except Unavailable:
                    continue
                accepted += 1
            return accepted

        assert sum(in_threads(6, fill)) == store.counts()[BuildState.QUEUED] == 10


class TestIdempotency:
    def again(self, store, asked, by="ci", key="k", max_queued=1000):
        return store.submit(asked, by, idempotency_key=key, max_queued=max_queued)

    def test_the_same_key_and_request_is_the_same_build_whatever_became_of_it(self, store):
        asked = request(secrets={"A": SECRET})
        first, _ = self.again(store, asked)
        assert self.again(store, asked, max_queued=1) == (first, False)
        ended = finish(store, claim(store))
        assert self.again(store, asked) == (ended, False)

    @pytest.mark.parametrize(
        "other",
        [
            request(secrets={"A": SECRET + "!"}),
            request(secrets={"B": SECRET}),
            request(secrets={"A": SECRET}, env={"X": "1"}),
            request(secrets={"A": SECRET}, priority=1),
            BuildRequest(image="busybox", argv=["make"], secrets={"A": SECRET}),
        ],
    )
    def test_the_same_key_and_another_request_is_a_conflict(self, store, other):
        build, _ = self.again(store, request(secrets={"A": SECRET}))
        with pytest.raises(Conflict, match=build.id):
            self.again(store, other)
        assert store.list() == [build]

    def test_another_git_password_is_another_request(self, store):
        self.again(store, request(source=GitSource(url="https://h/r", password="one")))
        with pytest.raises(Conflict):
            self.again(store, request(source=GitSource(url="https://h/r", password="two")))

    def test_a_key_belongs_to_who_used_it_and_no_key_is_never_the_same(self, store):
        builds = [self.again(store, request(), by=by, key=key) for by in ("a", "b") for key in ("k", "l", None, None)]
        assert all(created for _, created in builds)
        assert len({build.id for build, _ in builds}) == 8

    def test_many_at_once_make_one_build(self, store):
        answers = in_threads(8, lambda _: self.again(store, request()))
        assert Counter(created for _, created in answers) == {True: 1, False: 7}
        assert len({build.id for build, _ in answers}) == 1

    def test_the_digest_cannot_be_computed_without_the_key(self, tmp_path):
        digests = set()
        for name in ("one", "two"):
            store = BuildStore(tmp_path / name, Fernet.generate_key())
            self.again(store, request(secrets={"A": "1234"}))
            with store._database.reading() as connection:
                digests.add(connection.exec_driver_sql("SELECT request_digest FROM builds").scalar_one())
            store.close()
        assert len(digests) == 2


class TestCancel:
    def test_a_queued_build_ends_at_once(self, store, clock):
        build = submit(store, secrets={"A": SECRET})
        clock.now = 1500.0
        ended = store.request_cancel(build.id)
        assert (ended.state, ended.finished_at) == (BuildState.FINISHED, 1500.0)
        assert (ended.outcome.result, ended.outcome.reason) == (Result.ABORTED, Reason.CANCELLED)
        assert "cancelled before it started" in ended.outcome.message
        assert store.secrets(build.id) == {}
        assert store.claim("one", LEASE, lambda _: True) is None

    @pytest.mark.parametrize("state", [BuildState.PREPARING, BuildState.RUNNING])
    def test_a_claimed_build_is_only_told(self, store, state):
        submit(store)
        held = store.advance(claim(store), state=state)
        for _ in range(2):
            told = store.request_cancel(held.id)
            assert (told.state, told.cancel_requested, told.outcome) == (state, True, None)
        assert finish(store, held).outcome == SUCCESS  # its holder still holds it, and may have been faster

    def test_a_finished_build_stays_as_it_is(self, store):
        submit(store)
        ended = finish(store, claim(store))
        assert store.request_cancel(ended.id) == ended

    def test_an_unknown_build_is_not_found(self, store):
        with pytest.raises(NotFound, match="no build nope"):
            store.request_cancel("nope")

    def test_a_cancelled_build_never_waits_again(self, store):
        submit(store, secrets={"A": SECRET})
        held = claim(store)
        store.request_cancel(held.id)
        ended = store.requeue(held)
        assert (ended.state, ended.outcome.result) == (BuildState.FINISHED, Result.ABORTED)
        assert store.secrets(held.id) == {}


class TestReading:
    def test_pages_go_from_the_newest_to_the_oldest(self, store):
        ids = sorted((submit(store).id for _ in range(7)), reverse=True)
        pages, before = [], None
        while page := store.list(before=before, limit=3):
            pages.append([build.id for build in page])
            before = pages[-1][-1]
        assert pages == [ids[:3], ids[3:6], ids[6:]]

    def test_states_are_filtered(self, store):
        for _ in range(4):
            submit(store)
        finish(store, claim(store))
        running = store.advance(claim(store), state=BuildState.RUNNING)
        preparing = claim(store)
        assert store.counts() == dict.fromkeys(BuildState, 1) | {BuildState.CONNECTED: 0}
        assert store.list(states=[BuildState.RUNNING]) == [running]
        assert len(store.list(states={BuildState.QUEUED, BuildState.FINISHED})) == 2
        assert store.running() == [running, preparing]

    def test_all_unfinished_are_told_beyond_a_page_too(self, store):
        for _ in range(_PAGE + 3):
            submit(store)
        ended = finish(store, claim(store))
        claim(store)
        unfinished = list(store.unfinished())
        assert unfinished == [build for build in store.list(limit=2 * _PAGE) if build != ended]
        assert len(unfinished) == _PAGE + 2

    def test_an_unknown_build_is_not_found(self, store):
        for ask in (store.get, store.secrets):
            with pytest.raises(NotFound, match="no build nope"):
                ask("nope")

    def test_the_oldest_finished_are_deleted_first_and_no_others(self, store, clock):
        asked = request(priority=1)
        store.submit(asked, "ci", idempotency_key="k", max_queued=9)
        builds = [submit(store) for _ in range(5)]
        ended = []
        for clock.now in (2001.0, 2002.0, 2003.0, 2004.0):
            ended.append(finish(store, claim(store)).id)
        assert sorted(store.delete_finished(2004.0, limit=2)) == sorted(ended[:2])
        assert store.delete_finished(2004.0) == ended[2:3]
        assert store.delete_finished(2004.0) == []
        assert {build.id for build in store.list()} == {build.id for build in builds} - set(ended[:3])
        assert store.submit(asked, "ci", idempotency_key="k", max_queued=9)[1]  # the key is free again


class TestSecrets:
    def on_disk(self, path):
        return b"".join(file.read_bytes() for file in path.parent.iterdir())

    def test_no_file_ever_holds_them_in_the_clear(self, store, path):
        build = submit(store, secrets={"A": SECRET})
        for clear in (SECRET.encode(), base64.b64encode(SECRET.encode())[:-4], SECRET.encode("utf-16-le")):
            assert clear not in self.on_disk(path)
        assert build.id.encode() in self.on_disk(path)

    @pytest.mark.parametrize("end", ["finish", "cancel", "expire"])
    def test_not_even_encrypted_when_the_build_has_ended(self, store, path, clock, end):
        build = submit(store, secrets={f"A{number}": SECRET * 20 for number in range(20)})
        with store._database.reading() as connection:
            encrypted = connection.exec_driver_sql("SELECT secrets FROM builds").scalar_one()
        if end != "cancel":
            held = claim(store)
        if end != "finish":
            store.request_cancel(build.id)
        if end == "finish":
            finish(store, held)
        clock.now = LEASE
        store.release_expired()
        assert store.secrets(build.id) == {}
        store.close()
        pieces = {encrypted[start : start + 32] for start in range(0, len(encrypted) - 32, 32)}
        assert len(pieces) > 100
        assert not [piece for piece in pieces if piece in self.on_disk(path)]

    def test_another_key_cannot_read_them_and_says_so(self, store, path, clock):
        build = submit(store, secrets={"A": SECRET})
        store.close()
        other = BuildStore(path, Fernet.generate_key(), clock)
        with pytest.raises(StoreUnavailable, match=f"secrets of build {build.id}.*another secret key"):
            other.secrets(build.id)
        assert other.request_cancel(build.id).state is BuildState.FINISHED
        other.close()

    @pytest.mark.parametrize("key", [b"", b"short", KEY[:-8]], ids=["empty", "short", "cut off"])
    def test_a_damaged_key_is_refused(self, path, key):
        with pytest.raises(InvalidSettings, match="secret key"):
            BuildStore(path, key)


class TestImages:
    TAG, BASE = "docker.io/team/app:1", "docker.io/library/base:1"

    def made(self, store, tags):
        request = ImageBuildRequest(dockerfile_text="FROM base:1", tags=list(tags))
        store.submit(request, "ci", max_queued=10)
        held = store.claim("me", LEASE, lambda _: True, lane=Lane.IMAGES)
        record = ImageRecord(id="sha256:1", size=1, tags=tags, bases=(BaseImage(reference=self.BASE, digest=None),))
        return store.finish(held, SUCCESS, phases={}, artifacts=(), image=record)

    def test_a_name_finds_who_gave_it_and_not_who_built_on_it(self, store):
        older, newer = self.made(store, (self.TAG,)), self.made(store, (self.TAG, "docker.io/team/app:2"))
        found = {tag: [build.id for build in store.images(tag=tag)] for tag in (self.TAG, self.BASE, "team/app:1")}
        assert found == {self.TAG: [newer.id, older.id], self.BASE: [], "team/app:1": []}
        assert store.image_tags("ci", 10) == {self.TAG: newer.id, "docker.io/team/app:2": newer.id}
        assert store.image_tags("ci", 0) == store.image_tags("other", 10) == {}
