"""The client exchanges a build's id token once, and keeps what it got where nobody else finds it."""

import base64
import datetime as dt
import json
import os
import threading

import pytest

from tests.api import client_process
from tests.fakes.build_server import Answer, BuildServer

TOKEN = "sbl_k2j4h6g8_" + "s" * 43


def id_token(**changes):
    claims = {"iss": "https://jenkins/oidc", "sub": "https://jenkins/job/app/", "build_number": 7, **changes}
    parts = ({"alg": "RS256"}, claims)
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + ".c2ln"
    )


def granted(token=TOKEN, hours=12.0):
    end = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
    return Answer(201, {"token": token, "name": "job:app", "expires_at": end.isoformat()})


@pytest.fixture
def server():
    with BuildServer() as server:
        server.answers["POST /v1/tokens"] = [granted()]
        yield server


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def ps(server, cache):
    """Runs `sibling ps` as a process; returns how it ended."""

    def run(*options, **variables):
        env = {"SIBLING_CACHE_DIR": str(cache), "HOME": str(cache.parent), "SIBLING_ID_TOKEN": id_token(), **variables}
        env = client_process.environment(**{name: value for name, value in env.items() if value is not None})
        return client_process.run("ps", "--url", server.url, *options, env=env)

    return run


def exchanges(server):
    return [json.loads(each.body)["id_token"] for each in server.asked if each.path == "/v1/tokens"]


def callers(server):
    return [each.headers.get("Authorization") for each in server.asked if each.path == "/v1/builds"]


def test_it_is_exchanged_once_for_all_commands_of_a_build(server, ps):
    assert [ps().returncode for _ in range(3)] == [0] * 3
    assert exchanges(server) == [id_token()]
    assert callers(server) == [f"Bearer {TOKEN}"] * 3
    assert not any("Authorization" in each.headers for each in server.asked if each.path == "/v1/tokens")


def test_a_fresh_id_token_of_the_same_build_needs_no_exchange(server, ps):
    assert ps().returncode == 0
    assert ps(SIBLING_ID_TOKEN=id_token(iat=1, exp=2)).returncode == 0
    assert len(exchanges(server)) == 1


@pytest.mark.parametrize(
    "change", [{"build_number": 8}, {"sub": "https://jenkins/job/other/"}, {"iss": "https://other"}]
)
def test_another_build_gets_a_token_of_its_own(server, ps, change):
    server.answers["POST /v1/tokens"].append(granted(TOKEN + "2"))
    assert ps().returncode == 0
    assert ps(SIBLING_ID_TOKEN=id_token(**change)).returncode == 0
    assert callers(server) == [f"Bearer {TOKEN}", f"Bearer {TOKEN}2"]


def test_a_service_at_another_address_is_not_given_the_token_of_the_first(server, ps):
    assert ps().returncode == 0
    assert ps("--url", server.url + "/").returncode == 0  # which is the same address
    with BuildServer() as other:
        other.answers["POST /v1/tokens"] = [granted("sbl_other")]
        assert ps("--url", other.url).returncode == 0
        assert callers(other) == ["Bearer sbl_other"]


def test_a_token_that_ends_soon_is_replaced(server, ps):
    server.answers["POST /v1/tokens"] = [granted("sbl_short", hours=0.01), granted()]
    assert [ps().returncode for _ in range(3)] == [0] * 3
    assert callers(server) == ["Bearer sbl_short", f"Bearer {TOKEN}", f"Bearer {TOKEN}"]


def test_processes_that_come_at_once_exchange_it_once(server, ps):
    go_on = server.held["POST /v1/tokens"] = threading.Event()
    ended = []
    threads = [threading.Thread(target=lambda: ended.append(ps())) for _ in range(4)]
    for thread in threads:
        thread.start()
    server.wait_for("POST", "/v1/tokens")
    go_on.set()
    for thread in threads:
        thread.join()
    assert [each.returncode for each in ended] == [0] * 4
    assert len(exchanges(server)) == 1
    assert callers(server) == [f"Bearer {TOKEN}"] * 4


def test_only_this_user_can_read_what_is_kept_and_its_name_tells_nothing(server, ps, cache):
    before = os.umask(0)
    try:
        assert ps().returncode == 0
    finally:
        os.umask(before)
    (file,) = cache.iterdir()
    assert (cache.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert len(file.name) == 32
    assert id_token().split(".")[2] not in file.read_text()


# --- where the id token comes from, and what goes before it


def test_it_may_be_in_a_file_as_jenkins_makes_one(server, ps, tmp_path):
    (tmp_path / "id").write_text(id_token() + "\n")
    assert ps("--id-token-file", str(tmp_path / "id"), SIBLING_ID_TOKEN="nonsense").returncode == 0
    assert ps(SIBLING_ID_TOKEN_FILE=str(tmp_path / "id"), SIBLING_ID_TOKEN=None).returncode == 0
    assert exchanges(server) == [id_token()]


def test_a_token_goes_before_an_id_token_of_the_environment_but_not_before_the_option(server, ps, tmp_path):
    (tmp_path / "token").write_text("sbl_file")
    (tmp_path / "id").write_text(id_token())
    assert ps(SIBLING_TOKEN="sbl_own").returncode == 0
    assert ps("--token-file", str(tmp_path / "token")).returncode == 0
    assert exchanges(server) == []
    assert ps("--id-token-file", str(tmp_path / "id"), SIBLING_TOKEN="sbl_own").returncode == 0
    assert callers(server) == ["Bearer sbl_own", "Bearer sbl_file", f"Bearer {TOKEN}"]


def test_both_options_at_once_are_a_wrong_command_line(ps):
    ended = ps("--token-file", "a", "--id-token-file", "b")
    assert ended.returncode == 2
    assert b"not allowed with" in ended.stderr


@pytest.mark.parametrize("text", ["nonsense", "a.b", "a.b.c", "a.W10.c", "é.é.é", "..", "sbl_k2j4h6g8_secret"])
def test_what_is_no_id_token_is_told_and_neither_sent_nor_shown(server, ps, cache, text):
    ended = ps(SIBLING_ID_TOKEN=text)
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"[sibling] SIBLING_ID_TOKEN holds no id token")
    assert len(text) < 5 or text.encode() not in ended.stderr
    assert server.asked == []
    assert not cache.exists()


def test_a_file_that_is_not_there_or_empty_is_told(ps, tmp_path):
    assert b"cannot be read: No such file" in ps("--id-token-file", str(tmp_path / "gone")).stderr
    (tmp_path / "empty").touch()
    assert b"empty holds no id token" in ps("--id-token-file", str(tmp_path / "empty")).stderr


# --- what the service refuses


def test_a_refusal_is_told_in_its_words_and_nothing_is_kept(server, ps, cache):
    server.answers["POST /v1/tokens"] = [Answer(401, {"detail": "The id token is refused: it has expired."}), granted()]
    ended = ps()
    assert ended.returncode == 1
    assert b"it has expired" in ended.stderr
    assert id_token().encode() not in ended.stderr
    assert [file.read_bytes() for file in cache.iterdir()] == [b""]
    assert ps().returncode == 0


def test_a_second_exchange_says_where_the_first_token_may_be(server, ps, cache):
    server.answers["POST /v1/tokens"] = [Answer(409, {"detail": "An id token of app #7 was exchanged before."})]
    ended = ps()
    assert ended.returncode == 1
    assert b"was exchanged before" in ended.stderr
    assert str(cache).encode() in ended.stderr
    assert b"pass the token on in SIBLING_TOKEN" in ended.stderr


@pytest.mark.parametrize("body", [{}, [], {"token": 5}, {"token": "a b"}, {"token": ""}])
def test_an_answer_without_a_token_is_told(server, ps, body):
    server.answers["POST /v1/tokens"] = [Answer(201, body)]
    assert b"answered without a token" in ps().stderr


# --- files that are not as they must be


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"token": 5, "expires_at": 5}', b'{"token": "x"}', b"\xff"])
def test_a_spoiled_file_is_written_anew(server, ps, cache, content):
    assert ps().returncode == 0
    (file,) = cache.iterdir()
    file.write_bytes(content)
    server.answers["POST /v1/tokens"] = [granted(TOKEN + "2")]
    assert ps().returncode == 0
    assert json.loads(file.read_bytes())["token"] == TOKEN + "2"


def test_no_link_is_followed(server, ps, cache, tmp_path):
    assert ps().returncode == 0
    (file,) = cache.iterdir()
    name, target = file.name, tmp_path / "target"
    target.write_text("precious")
    file.unlink()
    file.symlink_to(target)
    assert b"cannot be kept" in ps().stderr
    file.unlink()
    cache.rename(tmp_path / "moved")
    cache.symlink_to(tmp_path / "moved")
    assert b"cannot be kept" in ps().stderr
    assert target.read_text() == "precious"
    assert not (tmp_path / "moved" / name).exists()
    assert len(exchanges(server)) == 1


@pytest.mark.parametrize("kind", ["folder", "file", "pipe"])
def test_what_others_can_use_is_refused_before_the_exchange(server, ps, cache, kind):
    assert ps().returncode == 0
    (file,) = cache.iterdir()
    if kind == "pipe":
        file.unlink()
        os.mkfifo(file, 0o600)
    else:
        (cache if kind == "folder" else file).chmod(0o744)
    ended = ps()
    assert ended.returncode == 1
    assert {"folder": b"chmod 700", "file": b"is not only yours", "pipe": b"is not only yours"}[kind] in ended.stderr
    assert len(exchanges(server)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_another_user_is_refused(server, ps, cache):
    cache.mkdir(mode=0o700)
    os.chown(cache, 1234, 1234)
    assert b"another user's" in ps().stderr
    assert exchanges(server) == []


def test_a_folder_that_cannot_be_made_is_told_before_the_exchange(server, ps, tmp_path):
    (tmp_path / "plain").touch()
    ended = ps(SIBLING_CACHE_DIR=str(tmp_path / "plain" / "cache"))
    assert b"Name another folder in SIBLING_CACHE_DIR" in ended.stderr
    assert exchanges(server) == []


@pytest.mark.parametrize(
    ("runtime", "where"), [("run", "run/sibling"), ("gone", ".cache/sibling"), (None, ".cache/sibling")]
)
def test_without_a_folder_of_its_own_it_takes_the_user_s(server, ps, tmp_path, runtime, where):
    (tmp_path / "run").mkdir()
    folder = runtime and str(tmp_path / runtime)
    assert ps(SIBLING_CACHE_DIR=None, XDG_RUNTIME_DIR=folder or "").returncode == 0
    assert len(list((tmp_path / where).iterdir())) == 1


def test_tokens_of_long_ago_are_removed_and_nothing_else(server, ps, cache):
    cache.mkdir(mode=0o700)
    for name in ("0" * 32, "1" * 32, "notes"):
        (cache / name).touch()
    for name in ("0" * 32, "notes"):
        os.utime(cache / name, (0, 0))
    assert ps().returncode == 0
    assert {"1" * 32, "notes"} < {file.name for file in cache.iterdir()}
    assert len(list(cache.iterdir())) == 3
