"""Each build gets one token, which is good for its time, after a restart too; of its secret nothing is kept."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agent.build_store import BuildStore
from agent.build_store.exchanges import Exchanges, exchanges
from agent.errors import Conflict
from agent.oidc import Identity
from agent.tokens import FirstOf, Scope, TokenFile
from tests.agent.store_steps import KEY, in_threads

ROOT = Path(__file__).parents[2]
HOUR = 3600.0
ISSUER = "https://jenkins.example/oidc"


def identity(**changes):
    usual = {
        "issuer": ISSUER,
        "subject": "https://jenkins.example/job/team/job/app/",
        "job": "team/app",
        "build_number": 7,
        "expires_at": 1000.0 + HOUR,
        "scopes": frozenset({Scope.READ, Scope.WRITE}),
        "lifetime": 12 * HOUR,
    }
    return Identity(**{**usual, **changes})


@pytest.fixture
def given(store):
    return store.exchanges.add(identity())


def rows(store):
    with store._database.reading() as connection:
        return connection.execute(exchanges.select()).all()


def test_the_token_knows_its_job_and_has_the_scopes_that_were_granted(store, given):
    token = store.exchanges.verify(given.text)
    assert token == given.token
    assert (token.name, token.job, token.build) == ("job:team/app", "team/app", None)
    assert token.scopes == {Scope.READ, Scope.WRITE}
    assert token.created_at == 1000.0
    assert not token.allows(Scope.ADMIN)
    assert given.expires_at == 1000.0 + 12 * HOUR


def test_it_is_good_until_its_time_is_over_and_not_longer(store, clock, given):
    clock.now = given.expires_at - 0.1
    assert store.exchanges.verify(given.text)
    clock.now = given.expires_at
    assert store.exchanges.verify(given.text) is None


def test_its_secret_is_nowhere_in_the_files(store, path, given):
    secret = given.text.split("_", 2)[2]
    for file in path.parent.iterdir():
        assert secret.encode() not in file.read_bytes()
    assert given.text.encode() not in path.read_bytes()


def test_a_digest_is_of_no_use_under_another_key_nor_as_a_secret(store, path, clock, given):
    (row,) = rows(store)
    assert store.exchanges.verify(f"sbl_{row.id}_{row.digest[:43]}") is None
    store.close()
    with closing(BuildStore(path, bytes(reversed(KEY[:-1])) + KEY[-1:], clock)) as other:
        assert other.exchanges.verify(given.text) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text[:4] + "zzzzzzzz" + text[12:],
        lambda text: text.upper(),
        lambda text: text + "x",
        lambda text: "",
        lambda text: "\ud800",
    ],
)
def test_any_other_text_is_nobody_s(store, given, change):
    for _ in range(2):
        assert store.exchanges.verify(change(given.text)) is None
    assert store.exchanges.verify(given.text)


# --- once


def test_a_second_exchange_of_the_same_build_is_refused_and_the_first_token_stays_good(store, given):
    with pytest.raises(Conflict, match=r"team/app #7 was exchanged before.*run the job again"):
        store.exchanges.add(identity(expires_at=5000.0 + HOUR, scopes=frozenset({Scope.READ})))
    assert store.exchanges.verify(given.text)
    assert len(rows(store)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"build_number": 8},
        {"subject": "https://jenkins.example/job/other/", "job": "other"},
        {"issuer": "https://other"},
    ],
)
def test_other_builds_jobs_and_issuers_get_their_own(store, given, change):
    other = store.exchanges.add(identity(**change))
    assert other.token.id != given.token.id
    assert store.exchanges.verify(other.text) == other.token
    assert store.exchanges.verify(given.text) == given.token


def test_of_many_exchanges_at_once_exactly_one_gets_a_token(store):
    def attempt(_):
        try:
            return store.exchanges.add(identity())
        except Conflict:
            return None

    (won,) = filter(None, in_threads(16, attempt))
    assert store.exchanges.verify(won.text) == won.token
    assert len(rows(store)) == 1


def test_the_database_itself_refuses_a_second_row(store, path, given):
    with closing(sqlite3.connect(path)) as stranger, pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        stranger.execute(
            "INSERT INTO exchanges SELECT 'aaaaaaaa', digest, issuer, subject, build_number, job, scopes, created_at, "
            "expires_at, keep_until FROM exchanges"
        )


def test_a_restart_keeps_the_token_good_and_the_second_exchange_refused(store, path, clock, given):
    store.close()
    with closing(BuildStore(path, KEY, clock)) as again:
        assert again.exchanges.verify(given.text) == given.token
        with pytest.raises(Conflict):
            again.exchanges.add(identity())


EXCHANGE = """
import dataclasses, os, signal, sys
from pathlib import Path
from agent.build_store import BuildStore
from tests.agent.test_exchanges import identity
store = BuildStore(Path(sys.argv[1]), sys.argv[2].encode(), lambda: 1000.0)
sys.stdout.write(store.exchanges.add(identity()).text)
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_right_after_the_exchange_changes_nothing_of_that(path, clock):
    killed = subprocess.run(
        [sys.executable, "-c", EXCHANGE, str(path), KEY.decode()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with closing(BuildStore(path, KEY, clock)) as store:
        assert store.exchanges.verify(killed.stdout).name == "job:team/app"
        with pytest.raises(Conflict):
            store.exchanges.add(identity())


# --- how long rows stay


@pytest.mark.parametrize(
    ("id_token", "lifetime"),
    [(1000.0 + HOUR, 12 * HOUR), (1000.0 + 48 * HOUR, 12 * HOUR), (1000.0 + HOUR, 60.0)],
    ids=["token ends last", "id token ends last", "both soon"],
)
def test_a_row_stays_while_its_token_is_good_or_its_id_token_could_be_shown_again(store, clock, id_token, lifetime):
    store.exchanges.add(identity(expires_at=id_token, lifetime=lifetime))
    clock.now = max(id_token, 1000.0 + lifetime) + 0.5
    with pytest.raises(Conflict):
        store.exchanges.add(identity(expires_at=id_token))
    store.exchanges.add(identity(build_number=8))
    assert [row.build_number for row in rows(store)] == [7, 8]


def test_then_it_is_deleted_by_the_next_exchange_and_the_number_is_free_again(store, clock, given):
    clock.now = given.expires_at + 2 * HOUR
    store.exchanges.add(identity(build_number=8))
    assert [row.build_number for row in rows(store)] == [8]
    new = store.exchanges.add(identity())
    assert store.exchanges.verify(new.text)
    assert store.exchanges.verify(given.text) is None


def test_an_id_token_that_never_expires_keeps_its_row_for_ever(store, clock):
    store.exchanges.add(identity(expires_at=2.0**53))
    clock.now = 2.0**40
    with pytest.raises(Conflict):
        store.exchanges.add(identity(expires_at=2.0**53))


# --- issuers that are not trusted any more


def test_tokens_of_issuers_that_left_the_settings_end_and_cannot_be_had_again(store, given):
    other = store.exchanges.add(identity(issuer="https://other"))
    assert store.exchanges.verify(given.text)
    store.exchanges.end_all_but({"https://other"})
    assert store.exchanges.verify(given.text) is None
    assert store.exchanges.verify(other.text)
    with pytest.raises(Conflict):
        store.exchanges.add(identity())
    store.exchanges.end_all_but(set())
    assert store.exchanges.verify(other.text) is None


# --- with other verifiers, and cheap


def test_one_verifier_of_both_knows_tokens_of_the_file_and_of_exchanges(store, tmp_path, given):
    file = TokenFile(tmp_path / "tokens")
    both = FirstOf(file, store.exchanges)
    assert both.verify(file.create("ci", [Scope.READ])).name == "ci"
    assert both.verify(given.text).name == "job:team/app"
    assert both.verify("sbl_aaaaaaaa_" + "x" * 43) is None


def test_a_token_that_was_seen_is_known_without_the_disk(store, given):
    assert store.exchanges.verify(given.text)
    store.close()
    assert store.exchanges.verify(given.text) == given.token


def test_memory_holds_no_more_than_so_many(store, clock):
    few = Exchanges(store._database, KEY, clock, remembered=3)
    given = [few.add(identity(build_number=number)) for number in range(10, 20)]
    for each in (*given, given[0]):
        assert few.verify(each.text) == each.token
        assert 1 <= len(few._remembered) <= 3


def test_whoever_logs_what_was_given_does_not_log_the_secret(given):
    assert given.token.id in repr(given)
    assert given.text.split("_", 2)[2] not in repr(given)
