"""kill -9 of the service at any moment: the build ends, its log is whole, its result is right, nothing is left."""

import random

import pytest

from tests.e2e.harness import let_pass, until

pytestmark = pytest.mark.engine

# Both streams, in bursts and drops, with a last line that has no newline; every byte is known beforehand.
SCRIPT = """
i=0
while [ $i -lt 120 ]; do
    echo "out $i $(head -c $((i * 7)) /dev/zero | tr '\\0' o)"
    echo "err $i" >&2
    [ $((i % 10)) -ne 0 ] || sleep 0.1
    i=$((i + 1))
done
printf 'the end'
"""
OUT = b"".join(b"out %d %s\n" % (i, b"o" * (i * 7)) for i in range(120)) + b"the end"
ERR = b"".join(b"err %d\n" % i for i in range(120))


def test_killing_the_service_at_20_moments_loses_and_doubles_nothing(service):
    moments = random.Random(20)
    for round_ in range(20):
        build_id = service.post(commands=SCRIPT.split("\n"))
        pause = moments.uniform(0, 1.9)
        let_pass(pause)
        service.kill()
        service.start()
        build = service.wait(build_id)
        streams = service.streams(build_id)
        where = f"round {round_}, killed after {pause:.2f} s: {build}"
        assert build["result"] == "SUCCESS", where
        assert streams["stdout"] == OUT, where
        assert streams["stderr"] == ERR, where
        assert not streams["sibling"], where
    service.assert_nothing_left()


def test_killing_it_again_and_again_in_one_build_loses_and_doubles_nothing(service):
    build_id = service.post(commands=[*SCRIPT.split("\n"), "exit 5"])
    for _ in range(4):
        let_pass(0.25)
        service.kill()
        service.start()
    build = service.wait(build_id)
    assert build["exit_code"] == 5
    streams = service.streams(build_id)
    assert (streams["stdout"], streams["stderr"]) == (OUT, ERR)
    assert streams["sibling"].count(b"[sibling]") == 1
    service.assert_nothing_left()


def test_what_a_reader_has_seen_stays_after_a_kill(service):
    build_id = service.post(commands=SCRIPT.split("\n"))
    seen = until(lambda: service.text_now(build_id))
    service.kill()
    service.start()
    service.wait(build_id)
    assert service.text(build_id).startswith(seen)


def test_queued_builds_survive_and_keep_their_order(service_with):
    service = service_with(queue__slots=1)
    builds = [service.post(commands=["echo $SIBLING_BUILD_ID"]) for _ in range(4)]
    service.kill()
    service.start()
    ended = [service.wait(each) for each in builds]
    assert [build["result"] for build in ended] == ["SUCCESS"] * 4
    assert [build["started_at"] for build in ended] == sorted(build["started_at"] for build in ended)


def test_secrets_are_masked_by_the_next_service_too(service):
    build_id = service.post(secrets={"TOKEN": "hunter2hunter2"}, commands=["echo up", "sleep 2", 'echo "a${TOKEN}b"'])
    until(lambda: service.text_now(build_id))
    service.kill()
    service.start()
    service.wait(build_id)
    assert service.text(build_id) == b"up\na****b\n"


def test_a_cancel_before_the_kill_holds_after_it(service):
    build_id = service.post(commands=["trap '' TERM", "echo up", "while :; do sleep 0.1; done"])
    until(lambda: service.text_now(build_id))
    service.client.post(f"/v1/builds/{build_id}/cancel")
    service.kill()
    service.start()
    build = service.wait(build_id, seconds=30)
    assert (build["result"], build["reason"]) == ("ABORTED", "cancelled")
    service.assert_nothing_left()


def test_a_timeout_counts_from_the_containers_start_and_not_from_ours(service):
    build_id = service.post(commands=["echo up", "sleep 60"], timeout="3s")
    until(lambda: service.text_now(build_id))
    service.kill()
    let_pass(3)
    service.start()
    build = service.wait(build_id, seconds=15)
    assert (build["result"], build["reason"]) == ("ABORTED", "timeout")


def test_term_lets_go_of_running_builds_and_the_next_start_goes_on(service):
    build_id = service.post(commands=["echo up", "sleep 2", "echo down"])
    until(lambda: service.text_now(build_id))
    service.stop()
    assert len(service.containers()) == 1, "a restart of the service must not end its builds"
    service.start()
    assert service.wait(build_id)["result"] == "SUCCESS"
    assert service.text(build_id) == b"up\ndown\n"
    service.assert_nothing_left()


def test_a_container_that_ended_while_the_service_was_down_is_reported(service):
    build_id = service.post(commands=["echo up", "sleep 1", "echo down", "exit 6"])
    until(lambda: service.text_now(build_id))
    service.kill()
    until(lambda: service.container(build_id).status == "exited")
    service.start()
    assert service.wait(build_id)["exit_code"] == 6
    assert service.text(build_id).startswith(b"up\ndown\n")


def test_a_second_service_on_the_same_data_is_refused(service, tmp_path):
    from tests.e2e.harness import ServiceProcess

    second = ServiceProcess(tmp_path, service._variables["SIBLING_ENGINE__HOST"])
    second._variables.update(service._variables)
    with pytest.raises(AssertionError, match="another"):
        second.start()
