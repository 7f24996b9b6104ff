"""Tokens: their text is nowhere kept, changes count at once, and a file that is not safe is refused with the cure."""

import json
import multiprocessing
import os
import re
import stat
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import Conflict, InvalidRequest, InvalidSettings, NotFound
from agent.tokens import ADMIN_TOKEN_FILE, AdminToken, Scope, Token, TokenFile, admin_token


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens"


@pytest.fixture
def key_path(tmp_path):
    return tmp_path / "tokens.key"


@pytest.fixture
def tokens(path):
    return TokenFile(path)


@pytest.fixture
def text(tokens):
    return tokens.create("ci", [Scope.ADMIN])


def test_a_created_token_is_verified_and_knows_its_name_and_scopes(tokens):
    token = tokens.verify(tokens.create("ci", [Scope.READ, Scope.WRITE]))
    assert (token.name, token.scopes) == ("ci", {Scope.READ, Scope.WRITE})
    assert token.allows(Scope.READ)
    assert not token.allows(Scope.ADMIN)


def test_writing_does_not_include_reading_and_admin_includes_all():
    assert not Token(id="a", name="a", scopes={Scope.WRITE}, created_at=0).allows(Scope.READ)
    assert all(Token(id="a", name="a", scopes={Scope.ADMIN}, created_at=0).allows(scope) for scope in Scope)


def test_neither_file_holds_the_text_or_its_secret_and_both_are_private(tokens, path, key_path):
    text = tokens.create("ci", [Scope.READ])
    assert re.fullmatch(r"sbl_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", text)
    for file in (path, key_path):
        assert text[13:] not in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(file.name for file in path.parent.iterdir()) == ["tokens", "tokens.key"]
    assert set(json.loads(path.read_text())) == {"id", "name", "scopes", "created_at", "digest"}


def test_the_digest_is_of_no_use_under_another_key(tokens, path, key_path):
    text = tokens.create("ci", [Scope.READ])
    key_path.write_text("0" * 64)
    assert TokenFile(path).verify(text) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 55), character=st.characters())
def test_a_text_with_any_other_character_is_nobody_s(tokens, text, place, character):
    changed = text[:place] + character + text[place + 1 :]
    assert (tokens.verify(changed) is not None) == (changed == text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(other=st.text(st.characters(codec=None)) | st.from_regex(r"sbl_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", fullmatch=True))
def test_a_stranger_s_text_is_nobody_s(tokens, text, tmp_path, other):
    assert text != other
    assert tokens.verify(other) is None
    assert AdminToken(admin_token(tmp_path)).verify(other) is None


def test_the_secret_of_one_token_does_not_open_another(tokens):
    one, other = tokens.create("one", [Scope.ADMIN]), tokens.create("other", [Scope.ADMIN])
    assert tokens.verify(one[:13] + other[13:]) is None


def test_what_another_process_changes_counts_at_the_next_call(tokens, path):
    service = TokenFile(path)
    first = tokens.create("first", [Scope.READ])
    assert service.verify(first).name == "first"
    second = tokens.create("second", [Scope.READ])
    assert service.verify(second).name == "second"
    tokens.revoke("first")
    assert service.verify(first) is None
    assert service.verify(second).name == "second"


def test_a_token_is_revoked_by_id_or_by_name(tokens):
    first = tokens.verify(tokens.create("first", [Scope.READ]))
    tokens.create("second", [Scope.READ])
    assert [token.name for token in tokens.list()] == ["first", "second"]
    assert tokens.revoke(first.id) == first
    tokens.revoke("second")
    assert list(tokens.list()) == []
    with pytest.raises(NotFound, match="no token second in"):
        tokens.revoke("second")


def test_a_taken_name_is_refused_and_the_first_token_stays_good(tokens):
    text = tokens.create("ci", [Scope.READ])
    with pytest.raises(Conflict, match="ci already"):
        tokens.create("ci", [Scope.ADMIN])
    with pytest.raises(Conflict):
        tokens.create(text[4:12], [Scope.READ])
    assert tokens.verify(text).scopes == {Scope.READ}


@pytest.mark.parametrize("name", ["", " ", "a b", "a\nb", "-x", "x" * 65, "é", "a/b"])
def test_a_name_that_would_spoil_a_log_is_refused(tokens, path, name):
    with pytest.raises(InvalidRequest, match="no name for a token"):
        tokens.create(name, [Scope.READ])
    assert not path.exists()


def test_a_token_without_a_scope_is_refused(tokens):
    with pytest.raises(InvalidRequest, match="give it a scope: builds:read, builds:write, admin"):
        tokens.create("ci", [])


# --- several at once


def _create(path, number):
    TokenFile(path).create(f"token-{number}", [Scope.READ])


def test_tokens_created_by_many_processes_at_once_are_all_kept(path):
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=_create, args=(path, number)) for number in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    assert {token.name for token in TokenFile(path).list()} == {f"token-{number}" for number in range(6)}


def test_a_verifier_in_many_threads_never_sees_half_a_file(tokens):
    text = tokens.create("kept", [Scope.READ])
    done, seen = threading.Event(), []

    def verify():
        while not done.is_set():
            seen.append(tokens.verify(text).name)

    threads = [threading.Thread(target=verify) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        tokens.create("other", [Scope.READ])
        tokens.revoke("other")
    done.set()
    for thread in threads:
        thread.join()
    assert set(seen) == {"kept"}


# --- files that are not as they must be


@pytest.mark.parametrize("name", ["tokens", "tokens.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_can_use_is_refused_even_by_a_running_service(tokens, tmp_path, name, mode):
    text = tokens.create("ci", [Scope.READ])
    assert tokens.verify(text)
    (tmp_path / name).chmod(mode)
    with pytest.raises(InvalidSettings, match=f"run `chmod 600 {tmp_path / name}`"):
        tokens.verify(text)
    (tmp_path / name).chmod(0o600)
    assert tokens.verify(text)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "null",
        "not json",
        '{"id":"a","name":"a","scopes":["root"],"created_at":0,"digest":"' + "0" * 64 + '"}',
        '{"id":"a","name":"a","scopes":["admin"],"created_at":0,"digest":"00"}',
        '{"id":"a","name":"a","scopes":["admin"],"created_at":0,"digest":"' + "0" * 64 + '","more":1}',
    ],
)
def test_a_broken_line_is_refused_with_its_number(tokens, path, line):
    tokens.create("ci", [Scope.READ])
    path.write_text(path.read_text() + line + "\n")
    for use in (lambda: tokens.verify("x"), tokens.list, lambda: tokens.create("b", [Scope.READ])):
        with pytest.raises(InvalidSettings, match="tokens:2: this line is not a token; delete it"):
            use()


def test_a_missing_file_is_told_with_the_command_that_makes_it(tokens):
    for use in (lambda: tokens.verify("x"), tokens.list, lambda: tokens.revoke("x")):
        with pytest.raises(
            InvalidSettings, match=r"There is no .*tokens; make a token file with `sibling token create`"
        ):
            use()


def test_a_lost_key_is_never_replaced_silently(tokens, key_path):
    tokens.create("ci", [Scope.READ])
    key_path.unlink()
    with pytest.raises(InvalidSettings, match="put the key back"):
        tokens.create("other", [Scope.READ])
    assert not key_path.exists()


def test_a_broken_key_is_refused(tokens, key_path):
    text = tokens.create("ci", [Scope.READ])
    key_path.write_text("")
    with pytest.raises(InvalidSettings, match=r"tokens\.key is not a key"):
        tokens.verify(text)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(InvalidSettings, match="cannot be used: No such file or directory"):
        TokenFile(tmp_path / "gone" / "tokens").create("ci", [Scope.READ])


def test_the_file_s_owner_stays_when_root_changes_it(tokens, path):
    tokens.create("ci", [Scope.READ])
    os.chown(path, 1234, 1235)
    tokens.create("other", [Scope.READ])
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


# --- the admin token of a service without a token file


def test_the_admin_token_is_made_once_private_and_good_for_all(tmp_path):
    text = admin_token(tmp_path)
    assert admin_token(tmp_path) == text
    assert stat.S_IMODE((tmp_path / ADMIN_TOKEN_FILE).stat().st_mode) == 0o600
    token = AdminToken(text).verify(text)
    assert token.name == "admin"
    assert all(token.allows(scope) for scope in Scope)


def test_a_broken_or_open_admin_token_is_refused_with_the_cure(tmp_path):
    file = tmp_path / ADMIN_TOKEN_FILE
    file.write_text("")
    file.chmod(0o600)
    with pytest.raises(InvalidSettings, match="delete it, and the next start makes a new one"):
        admin_token(tmp_path)
    file.chmod(0o644)
    with pytest.raises(InvalidSettings, match="chmod 600"):
        admin_token(tmp_path)
