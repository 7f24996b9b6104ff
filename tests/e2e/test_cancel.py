"""A build ends when it is asked to, in every state, and leaves nothing behind."""

import pytest

from tests.e2e.harness import let_pass, until

pytestmark = pytest.mark.engine


def cancel(service, build_id):
    answer = service.client.post(f"/v1/builds/{build_id}/cancel")
    assert answer.status_code in (200, 202), answer.text
    return answer


def test_a_queued_build_ends_at_once_with_a_log_that_says_so(service_with):
    service = service_with(queue__slots=1)
    blocker = service.post(commands=["sleep 60"])
    queued = service.post(commands=["echo never"])
    cancel(service, queued)
    build = service.wait(queued, seconds=2)
    assert (build["result"], build["reason"]) == ("ABORTED", "cancelled")
    assert service.text(queued).startswith(b"[sibling] ABORTED: ")
    cancel(service, blocker)
    service.wait(blocker)
    service.assert_nothing_left()


def test_a_build_that_pulls_ends_though_the_registry_is_silent(service, silent_registry):
    build_id = service.post(image=f"localhost:{silent_registry.port}/none:1", commands=["true"])
    until(lambda: service.build(build_id)["state"] == "preparing")
    until(silent_registry.asked.is_set)
    cancel(service, build_id)
    build = service.wait(build_id, seconds=5)
    assert (build["result"], build["reason"]) == ("ABORTED", "cancelled")


@pytest.mark.parametrize("pause", [0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5])
def test_cancelling_at_any_moment_of_the_start_leaves_nothing(service, pause):
    build_id = service.post(commands=["sleep 60"])
    let_pass(pause)
    cancel(service, build_id)
    build = service.wait(build_id, seconds=20)
    assert (build["result"], build["reason"]) == ("ABORTED", "cancelled")
    service.assert_nothing_left()


def test_cancelling_twice_and_after_the_end_changes_nothing(service):
    build_id = service.post(commands=["echo up", "trap 'echo bye; exit 0' TERM", "while :; do sleep 0.1; done"])
    until(lambda: service.text_now(build_id))
    cancel(service, build_id)
    cancel(service, build_id)
    build = service.wait(build_id)
    assert (build["result"], build["reason"]) == ("ABORTED", "cancelled")
    assert b"bye\n" in service.text(build_id), "the grace period must let it say goodbye"
    assert cancel(service, build_id).status_code == 200
    assert service.build(build_id) == build
    service.assert_nothing_left()


def test_cancelling_while_it_finishes_gives_one_result(service):
    builds = [service.post(commands=["true"]) for _ in range(6)]
    for each in builds:
        until(lambda each=each: service.build(each)["state"] != "queued")
        cancel(service, each)
    results = {service.wait(each)["result"] for each in builds}
    assert results <= {"SUCCESS", "ABORTED"}
    service.assert_nothing_left()


def test_a_container_that_ignores_term_is_killed_after_the_grace(service_with):
    service = service_with(engine__stop_grace=1)
    build_id = service.post(commands=["trap '' TERM", "echo up", "while :; do sleep 0.1; done"])
    until(lambda: service.text_now(build_id))
    cancel(service, build_id)
    build = service.wait(build_id, seconds=10)
    assert (build["result"], build["exit_code"]) == ("ABORTED", 137)
    service.assert_nothing_left()


def test_a_timeout_stops_the_build_and_says_so(service):
    build = service.run(commands=["echo up", "sleep 60"], timeout="1s")
    assert (build["result"], build["reason"]) == ("ABORTED", "timeout")
    assert b"timeout of 1 s" in service.text(build["id"])
    service.assert_nothing_left()


def test_a_daemon_that_holds_the_pipe_does_not_hold_the_build(service):
    build = service.run(commands=["(trap '' TERM HUP; while :; do sleep 1; done) &", "echo done"])
    assert build["result"] == "SUCCESS"
    assert service.text(build["id"]) == b"done\n"
    service.assert_nothing_left()


def test_a_build_that_closes_its_own_output_is_followed_to_its_end(service):
    build = service.run(commands=["echo first", "exec >&- 2>&-", "sleep 3", "exit 4"])
    assert build["exit_code"] == 4
    assert service.text(build["id"]).startswith(b"first\n")


def test_a_build_that_is_stopped_from_outside_is_no_success(service):
    """As an engine that is shut down does: TERM to all containers, and a build that catches it and exits 0."""
    build_id = service.post(commands=["trap 'exit 0' TERM", "echo up", "while :; do sleep 0.1; done"])
    until(lambda: service.text_now(build_id))
    service.container(build_id).stop()
    build = service.wait(build_id)
    assert (build["result"], build["exit_code"]) == ("FAILURE", 143)


def test_a_build_whose_container_is_removed_from_outside_says_so(service):
    build_id = service.post(commands=["echo up", "sleep 60"])
    until(lambda: service.text_now(build_id))
    service.container(build_id).remove(force=True)
    build = service.wait(build_id)
    assert build["result"] == "FAILURE"
    assert build["message"]


def test_out_of_memory_is_told_from_a_failure(service):
    build = service.run(memory="16m", commands=["x=$(head -c 200000000 /dev/zero | tr '\\0' x)", "echo $x"])
    assert (build["result"], build["reason"]) == ("FAILURE", "out-of-memory")
    assert b"16 MiB" in service.text(build["id"])


def test_a_fork_bomb_hits_its_own_limit_and_nobody_else(service):
    bomb = service.post(pids=50, timeout="3s", commands=["f() { f | f & }; f", "sleep 60"])
    build = service.run(commands=["echo fine"])
    assert service.text(build["id"]) == b"fine\n"
    assert service.wait(bomb)["result"] in ("FAILURE", "ABORTED")
    service.assert_nothing_left()
