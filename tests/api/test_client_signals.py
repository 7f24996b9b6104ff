"""Ctrl-C, TERM and HUP at every step of `sibling run`: real signals to a real process."""

from __future__ import annotations

import signal
import threading

import pytest

from tests.api import client_process
from tests.fakes.build_server import BuildServer, FakeBuild, Say, UntilCancelled, UntilReleased

RUN = ("run", "--image", "busybox:1")


def asked(server):
    return [f"{each.method} {each.path.rsplit('/', 1)[-1]}" for each in server.asked]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_a_signal_cancels_the_build_and_the_log_goes_on_to_its_end(number, code):
    build = FakeBuild((Say(b"begun\n"), UntilCancelled(), Say(b"cleaning up\n"), UntilReleased(), Say(b"done\n")))
    with BuildServer(build) as server, client_process.start(*RUN, "--url", server.url, "--", "true") as process:
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(number)
        server.wait_for("POST", "/cancel")
        assert process.stdout.readline() == b"cleaning up\n"
        build.release.set()
        assert process.stdout.read() == b"done\n"
        assert process.wait(30) == code
        err = process.stderr.read().decode()
    assert err.splitlines()[0].startswith(f"[sibling] Cancelling build {build.id}; once more to leave")
    assert err.splitlines()[1].startswith("[sibling] ABORTED in")


def test_a_second_ctrl_c_leaves_at_once_with_the_builds_id():
    build = FakeBuild((Say(b"begun\n"), UntilReleased()))
    with BuildServer(build) as server, client_process.start(*RUN, "--url", server.url, "--", "true") as process:
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        assert b"Cancelling" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().decode() == f"[sibling] Left build {build.id}; its cancel was requested.\n"
        assert process.wait(30) == 130
        assert not build.finished.is_set()
        assert asked(server).count("POST cancel") == 1


def test_two_signals_at_once_still_cancel():
    build = FakeBuild((Say(b"begun\n"), UntilReleased()))
    with BuildServer(build) as server, client_process.start(*RUN, "--url", server.url, "--", "true") as process:
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGCONT)
        server.wait_for("POST", "/cancel")
        assert process.wait(30) in {129, 143}


def test_leaving_before_the_service_confirmed_the_cancel_does_not_claim_it():
    build = FakeBuild((Say(b"begun\n"), UntilReleased()))
    with BuildServer(build) as server, client_process.start(*RUN, "--url", server.url, "--", "true") as process:
        assert process.stdout.readline() == b"begun\n"
        held = server.held[f"POST /v1/builds/{build.id}/cancel"] = threading.Event()
        process.send_signal(signal.SIGINT)
        assert b"Cancelling" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert f"`sibling cancel {build.id}`".encode() in process.stderr.read()
        assert process.wait(30) == 130
        held.set()


def test_a_signal_during_the_upload_submits_nothing(tmp_path):
    (tmp_path / "f").write_text("x")
    with BuildServer(FakeBuild()) as server:
        server.held["PUT /v1/sources"] = threading.Event()
        source = ("--source", str(tmp_path))
        with client_process.start(*RUN, "--url", server.url, *source, "--", "true") as process:
            server.wait_for("PUT", "/sources")
            process.send_signal(signal.SIGINT)
            assert process.stderr.read() == b"[sibling] Interrupted; nothing was submitted.\n"
            assert process.wait(30) == 130
        assert asked(server) == ["PUT sources"]
        server.held["PUT /v1/sources"].set()


def test_a_signal_while_the_answer_to_the_post_is_awaited_cancels_the_build_that_it_made():
    build = FakeBuild((UntilCancelled(),))
    with BuildServer(build) as server:
        held = server.held["POST /v1/builds"] = threading.Event()
        with client_process.start(*RUN, "--url", server.url, "--", "true") as process:
            server.wait_for("POST", "/builds")
            process.send_signal(signal.SIGTERM)
            assert b"to cancel the build" in process.stderr.readline()
            held.set()
            server.wait_for("POST", "/cancel")
            assert process.wait(30) == 143


def test_a_detached_run_that_is_interrupted_while_submitting_cancels_too():
    with BuildServer(FakeBuild((UntilCancelled(),))) as server:
        held = server.held["POST /v1/builds"] = threading.Event()
        with client_process.start(*RUN, "--detach", "--url", server.url, "--", "true") as process:
            server.wait_for("POST", "/builds")
            process.send_signal(signal.SIGINT)
            assert b"to cancel the build" in process.stderr.readline()
            held.set()
            server.wait_for("POST", "/cancel")
            assert process.wait(30) == 130
            assert process.stdout.read() == b""


def test_leaving_while_the_answer_to_the_post_is_awaited_says_that_nobody_knows():
    with BuildServer(FakeBuild()) as server:
        held = server.held["POST /v1/builds"] = threading.Event()
        with client_process.start(*RUN, "--url", server.url, "--", "true") as process:
            server.wait_for("POST", "/builds")
            process.send_signal(signal.SIGINT)
            assert b"to cancel the build" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert b"is not known" in process.stderr.read()
            assert process.wait(30) == 130
        held.set()


def test_a_signal_while_artifacts_are_fetched_leaves_no_half_file(tmp_path):
    build = FakeBuild(artifacts={"big.bin": b"x" * 100})
    with BuildServer(build) as server:
        held = server.held[f"GET /v1/builds/01build{0:019}/artifacts/big.bin"] = threading.Event()
        output = ("--artifact", "*", "--output", str(tmp_path / "out"))
        with client_process.start(*RUN, "--url", server.url, *output, "--", "true") as process:
            server.wait_for("GET", "/big.bin")
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            assert b"artifacts of build" in process.stderr.read()
        held.set()
    assert list((tmp_path / "out").iterdir()) == []


def test_a_signal_that_was_ignored_at_the_start_stays_ignored():
    build = FakeBuild((Say(b"begun\n"), UntilReleased()))
    deaf = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    with BuildServer(build) as server, client_process.start(*RUN, "--url", server.url, "--", "true", **deaf) as process:
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        build.release.set()
        assert process.wait(30) == 0
        assert "POST cancel" not in asked(server)


def test_ctrl_c_on_logs_leaves_the_build_running():
    build = FakeBuild((Say(b"begun\n"), UntilReleased()))
    with BuildServer() as server:
        server.add(build)
        with client_process.start("logs", "-f", build.id, "--url", server.url) as process:
            assert process.stdout.readline() == b"begun\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            assert process.stderr.read() == b""
        assert asked(server) == ["GET log"]
