"""`sibling run` from the command line to the exit code, through every way the connection can break."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from api.client import run
from api.client.connection import Connection
from api.client.errors import ClientError
from api.client.terminal import Screen
from tests.api import client_process
from tests.fakes.build_server import Answer, BuildServer, Cut, EndStream, FakeBuild, Say, UntilCancelled, UntilReleased

RUN = ("run", "--image", "busybox:1")


def run_build(build, *options, command=("--", "true"), **process):
    with BuildServer(build) as server:
        ended = client_process.run(*RUN, "--url", server.url, *options, *command, **process)
    return ended, server


def posted(server):
    return json.loads(server.wait_for("POST", "/v1/builds")[0].body)


def test_the_log_goes_to_standard_output_byte_for_byte_and_nothing_else_does():
    log = bytes(range(256)) * 1000 + b"\xff\xfe no end of line"
    ended, _ = run_build(FakeBuild((Say(log[:100]), Say(log[100:], "stderr"))))
    assert ended.stdout == log
    assert ended.returncode == 0


def test_one_summary_line_is_all_that_a_pipe_sees_on_standard_error():
    ended, server = run_build(FakeBuild((Say(b"x"),)))
    build_id = next(iter(server.builds))
    assert ended.stderr.decode() == (
        f"[sibling] SUCCESS in 3.2 s (queued 0.01, source 0.1, run 3.0), exit code 0, build {build_id}\n"
    )


@pytest.mark.parametrize(
    ("build", "code"),
    [
        (FakeBuild(result="SUCCESS", exit_code=0), 0),
        (FakeBuild(result="FAILURE", exit_code=3, reason="exit-code"), 3),
        (FakeBuild(result="FAILURE", exit_code=137, reason="out-of-memory"), 137),
        (FakeBuild(result="ABORTED", exit_code=137, reason="timeout"), 124),
        (FakeBuild(result="FAILURE", exit_code=143, reason="timeout"), 124),
        (FakeBuild(result="ABORTED", exit_code=0, reason="cancelled"), 130),
        (FakeBuild(result="NOT_BUILT", exit_code=None, reason="image"), 125),
        (FakeBuild(result="FAILURE", exit_code=0, reason="artifacts"), 125),
        (FakeBuild(result="FAILURE", exit_code=None, reason="engine"), 125),
    ],
    ids=lambda value: f"{value.result}-{value.reason}-{value.exit_code}" if isinstance(value, FakeBuild) else None,
)
def test_the_exit_code_is_the_builds_and_never_0_without_success(build, code):
    ended, _ = run_build(build)
    assert ended.returncode == code


def test_the_summary_says_why_a_build_could_not_be_run():
    ended, _ = run_build(FakeBuild(result="NOT_BUILT", exit_code=None, reason="image", message="There is no image x."))
    assert b"NOT_BUILT in" in ended.stderr
    assert b"There is no image x." in ended.stderr


def test_every_option_reaches_the_request():
    options = (
        "--env=A=1=2", "--env", "OWN", "--secret", "KEY", "--artifact", "out/**", "--artifact", "*.xml",
        "--user", "1000:1000", "--workdir", "sub", "--timeout", "10m", "--cpus", "1.5", "--memory", "512m",
        "--pids", "99", "--shm-size", "1g", "--pull", "never", "--label", "team=a=b", "--priority", "-5",
        "--concurrency", "deploy=prod=2", "--git", "https://example.com/r.git", "--ref", "v1",
        "--git-username", "me", "--git-password", "KEY",
    )  # fmt: skip
    env = client_process.environment(OWN="mine", KEY="s3cret")
    _, server = run_build(FakeBuild(), *options, command=("--", "echo", "--", "--image", "x y"), env=env)
    assert posted(server) == {
        "image": "busybox:1",
        "argv": ["echo", "--", "--image", "x y"],
        "env": {"A": "1=2", "OWN": "mine"},
        "secrets": {"KEY": "s3cret"},
        "artifacts": ["out/**", "*.xml"],
        "user": "1000:1000",
        "workdir": "sub",
        "timeout": "10m",
        "cpus": 1.5,
        "memory": "512m",
        "pids": 99,
        "shm_size": "1g",
        "pull": "never",
        "labels": {"team": "a=b"},
        "priority": -5,
        "concurrency": {"key": "deploy=prod", "limit": 2},
        "source": {
            "type": "git", "url": "https://example.com/r.git", "ref": "v1", "username": "me", "password": "s3cret",
        },
    }  # fmt: skip


def test_nothing_that_was_not_asked_for_is_sent():
    _, server = run_build(FakeBuild(), command=("-c", "make", "-c", "make check"))
    assert posted(server) == {"image": "busybox:1", "commands": ["make", "make check"]}


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"pass\n", "pass"), (b"pass\r\n", "pass"), (b"pass", "pass"), (b"-----\nkey\n-----\n", "-----\nkey\n-----\n")],
)
def test_a_secret_file_of_one_line_loses_its_line_end_and_a_key_keeps_it(tmp_path, content, value):
    (tmp_path / "secret").write_bytes(content)
    _, server = run_build(FakeBuild(), "--secret", f"KEY=@{tmp_path / 'secret'}")
    assert posted(server)["secrets"] == {"KEY": value}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--secret", "KEY=hunter2", "--", "true"), "would show the value"),
        (("--secret", "UNSET_HERE", "--", "true"), "UNSET_HERE is not set"),
        (("--secret", "KEY=@/no/such/file", "--", "true"), "/no/such/file"),
        (("--env", "UNSET_HERE", "--", "true"), "UNSET_HERE is not set"),
        (("--label", "x", "--", "true"), "--label x=VALUE"),
        (("--concurrency", "k=many", "--", "true"), "not a number"),
        (("--ref", "v1", "--", "true"), "belong to --git"),
        (("--git", "https://me:pw@example.com/r", "--", "true"), "--git-password"),
        (("--source", "/no/such/folder", "--", "true"), "is not a folder"),
        ((), "after `--`"),
        (("-c", "x", "--", "true"), "after `--`"),
        (("true",), "unrecognized arguments: true"),
        (("--source", ".", "--git", "https://example.com/r", "--", "true"), "not allowed with"),
    ],
)
def test_a_wrong_command_line_is_told_with_125_and_submits_nothing(options, sentence):
    with BuildServer(FakeBuild()) as server:
        ended = client_process.run(*RUN, "--url", server.url, *options)
    assert ended.returncode == 125
    assert sentence in ended.stderr.decode()
    assert b"Traceback" not in ended.stderr
    assert b"hunter2" not in ended.stderr
    assert server.asked == []


def test_a_log_cut_off_anywhere_goes_on_without_a_lost_or_doubled_byte():
    steps = (
        Cut(),
        Say(b"one\n"),
        Cut(1),
        Say(b"\xf0\x9f\x98\x80two\n" * 3),
        EndStream(),
        Say(b"three"),
        Cut(4),
        Say(b"four\n"),
    )
    ended, server = run_build(FakeBuild(steps))
    assert ended.stdout == server.builds.popitem()[1].log
    assert ended.returncode == 0


def test_a_lost_answer_to_the_post_does_not_make_a_second_build():
    with BuildServer(FakeBuild((Say(b"only one\n"),)), FakeBuild((Say(b"second\n"),))) as server:
        server.lost["POST /v1/builds"] = 2
        ended = client_process.run(*RUN, "--url", server.url, "--", "true")
    keys = {asked.headers["Idempotency-Key"] for asked in server.wait_for("POST", "/v1/builds", times=3)}
    assert ended.stdout == b"only one\n"
    assert len(keys) == 1
    assert len(server.builds) == 1


def test_a_proxy_that_answers_503_while_the_service_restarts_does_not_end_a_followed_build():
    build = FakeBuild((Say(b"a"), Cut(), Say(b"b")))
    away = Answer(503, b"<html>Service Unavailable</html>")
    with BuildServer(build) as server:
        server.answers[f"GET /v1/builds/01build{0:019}/log"] = [away, away]
        ended = client_process.run(*RUN, "--url", server.url, "--", "true")
    assert (ended.stdout, ended.returncode) == (b"ab", 0)
    assert ended.stderr.count(b"trying again") == 1


def test_a_full_queue_is_told_with_when_to_try_again():
    with BuildServer(FakeBuild()) as server:
        detail = {"title": "Service Unavailable", "status": 503, "detail": "The queue is full."}
        server.answers["POST /v1/builds"] = [Answer(503, detail, {"Retry-After": "17"})]
        ended = client_process.run(*RUN, "--url", server.url, "--", "true")
    assert ended.returncode == 125
    assert ended.stderr == b"[sibling] The queue is full. Try again in 17 s.\n"


def test_one_connection_carries_upload_submission_log_and_result(tmp_path):
    (tmp_path / "f").write_text("x")
    _, server = run_build(FakeBuild((Say(b"x"),)), "--source", str(tmp_path))
    assert {asked.connection for asked in server.asked} == {1}
    assert [asked.method for asked in server.asked] == ["PUT", "POST", "GET", "GET"]


def test_with_timestamps_every_line_has_one_time_however_it_is_cut():
    steps = (Say(b"half "), Cut(30), Say(b"a line\nnext"), Say(b"oops\n", "stderr"), Say(b"\xc3"), Say(b"\n"))
    ended, _ = run_build(FakeBuild(steps), "--timestamps")
    time = "10:00:00.250 "
    assert ended.stdout.decode() == f"{time}half a line\n{time}next\n{time}oops\n{time}\ufffd\n"


def test_json_gives_standard_output_to_the_build_and_standard_error_to_the_log():
    ended, _ = run_build(FakeBuild((Say(b"to stderr\n"),), result="FAILURE", exit_code=4), "--json")
    assert json.loads(ended.stdout)["result"] == "FAILURE"
    assert ended.stderr.startswith(b"to stderr\n")
    assert ended.returncode == 4


def test_detach_prints_the_id_and_leaves_the_build_alone():
    build = FakeBuild((UntilReleased(),))
    ended, server = run_build(build, "--detach")
    assert ended.stdout.decode() == f"{build.id}\n"
    assert (ended.stderr, ended.returncode) == (b"", 0)
    assert [asked.method for asked in server.asked] == ["POST"]


def test_when_the_reader_of_the_log_leaves_the_build_is_cancelled():
    build = FakeBuild((Say(b"first\n"), UntilReleased(), *[Say(b"more\n" * 10_000)] * 50, UntilCancelled()))
    with BuildServer(build) as server, client_process.start(*RUN, "--url", server.url, "--", "true") as process:
        assert process.stdout.readline() == b"first\n"
        process.stdout.close()
        build.release.set()
        err = process.stderr.read()
        assert process.wait(30) == 141
        assert server.wait_for("POST", "/cancel")
    assert b"ABORTED" in err
    assert b"Traceback" not in err


def test_standard_error_that_is_closed_too_changes_nothing():
    build = FakeBuild((Say(b"first\n"), UntilReleased(), *[Say(b"more\n" * 10_000)] * 50, UntilCancelled()))
    with (
        BuildServer(build) as server,
        client_process.start(*RUN, "--url", server.url, "--", "true", stderr=subprocess.STDOUT) as process,
    ):
        assert process.stdout.readline() == b"first\n"
        process.stdout.close()
        build.release.set()
        assert process.wait(30) == 141
        assert server.wait_for("POST", "/cancel")


def test_standard_output_that_another_program_made_non_blocking_loses_nothing():
    log = bytes(range(256)) * 8000
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with (
        BuildServer(FakeBuild((Say(log),))) as server,
        os.fdopen(reading, "rb") as reader,
        client_process.start(*RUN, "--url", server.url, "--", "true", stdout=writing) as process,
    ):
        os.close(writing)
        assert reader.read() == log
        assert process.wait(30) == 0


def test_a_full_disk_under_standard_output_is_told_and_cancels_the_build():
    with BuildServer(FakeBuild((Say(b"x" * 10),))) as server, Path("/dev/full").open("wb") as full:
        ended = client_process.run(*RUN, "--url", server.url, "--", "true", stdout=full)
        assert server.wait_for("POST", "/cancel")
    assert ended.returncode == 125
    assert b"No space left" in ended.stderr


def test_a_token_that_may_submit_but_not_read_is_told_which_build_goes_on():
    with BuildServer(FakeBuild((UntilCancelled(),))) as server:
        forbidden = {"title": "Forbidden", "status": 403, "detail": "The token lacks the scope builds:read."}
        server.answers[f"GET /v1/builds/01build{0:019}/log"] = [Answer(403, forbidden)]
        ended = client_process.run(*RUN, "--url", server.url, "--", "true")
    assert ended.returncode == 125
    assert b"lacks the scope builds:read. Build 01build0000000000000000000 goes on" in ended.stderr


def test_a_service_that_stays_away_leaves_the_build_its_id():
    options = run._parser().parse_args(["--image", "busybox:1"])
    options.argv = ["true"]
    with BuildServer(FakeBuild((Say(b"x"), *[Cut()] * 1000))) as server:
        sentence = r"did not come back .* Build 01build0+ goes on; `sibling logs -f 01build0+`"
        with closing(Connection(server.url, patience=0.3)) as connection, pytest.raises(ClientError, match=sentence):
            run._run(options, connection, Screen())
