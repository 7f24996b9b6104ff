"""Logs of any size and any bytes, with flat memory."""

import hashlib

import psutil
import pytest

from tests.e2e.harness import let_pass, until

pytestmark = pytest.mark.engine
MIB = 1024**2


def follow(service, build_id):
    """The log's digest and size, read as a follower does, without keeping it."""
    digest, size = hashlib.sha256(), 0
    with service.client.stream("GET", f"/v1/builds/{build_id}/log", params={"follow": "true"}, timeout=300) as answer:
        for piece in answer.iter_bytes():
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size


def resident(service):
    return psutil.Process(service.process.pid).memory_info().rss


def test_a_log_of_1_gb_passes_whole_and_leaves_no_memory_behind(service):
    service.run(commands=["yes warm | head -c 50000000 >/dev/null"])
    before = resident(service)
    line = b"0123456789" * 9 + b"\n"
    count = 1024**3 // len(line)
    build_id = service.post(commands=[f"yes {line.decode().strip()} | head -n {count}"], memory="64m")
    digest, size = follow(service, build_id)
    expected = hashlib.sha256()
    for _ in range(count // 1000):
        expected.update(line * 1000)
    expected.update(line * (count % 1000))
    assert size == count * len(line)
    assert digest == expected.hexdigest()
    assert service.wait(build_id)["result"] == "SUCCESS"
    assert resident(service) - before < 30 * MIB


def test_a_line_of_200_mb_without_a_newline(service):
    build_id = service.post(commands=["head -c 200000000 /dev/zero | tr '\\0' x"])
    assert follow(service, build_id) == (hashlib.sha256(b"x" * 200_000_000).hexdigest(), 200_000_000)
    assert service.wait(build_id)["result"] == "SUCCESS"


def test_every_byte_value_passes_as_it_is(service):
    octal = "".join(f"\\\\{value:03o}" for value in range(256))
    build = service.run(commands=[f"printf '{octal}' | sed 's/x/x/'".replace("\\\\", "\\")])
    assert service.text(build["id"]).rstrip(b"\n") == bytes(range(256)).rstrip(b"\n")


def test_invalid_utf_8_comes_as_text_over_sse_and_as_bytes_over_http(service):
    build = service.run(commands=["printf 'a\\303'; sleep 0.3; printf '\\274b\\377c'"])
    assert service.text(build["id"]) == b"a\xc3\xbcb\xffc"
    answer = service.client.get(f"/v1/builds/{build['id']}/log", headers={"Accept": "text/event-stream"})
    assert "event: end" in answer.text


def test_a_log_cap_says_that_it_was_reached_and_the_build_goes_on(service_with):
    service = service_with(builds__max_log="1m")
    build = service.run(commands=["yes | head -c 5000000", "echo survived >file"], artifacts=["file"])
    assert build["result"] == "SUCCESS"
    assert build["artifacts"]
    log = service.text(build["id"])
    assert log[: MIB - 200] == (b"y\n" * MIB)[: MIB - 200]
    assert len(log) < MIB + 500
    assert b"1048576" in log[-300:]


def test_a_slow_follower_does_not_slow_the_build(service):
    build_id = service.post(commands=[f"yes {'x' * 99} | head -c 100000000"])
    with service.client.stream("GET", f"/v1/builds/{build_id}/log", params={"follow": "true"}) as answer:
        next(answer.iter_raw())
        assert service.wait(build_id, seconds=60)["result"] == "SUCCESS"


def test_a_follower_may_come_at_any_time_and_from_any_byte(service):
    build_id = service.post(commands=["for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done"])
    texts = []
    for start in range(0, 16, 5):
        let_pass(0.1)
        answer = service.client.get(f"/v1/builds/{build_id}/log", params={"follow": "true", "start": start})
        if answer.status_code == 416:
            until(lambda start=start: len(service.text_now(build_id)) >= start)
            answer = service.client.get(f"/v1/builds/{build_id}/log", params={"follow": "true", "start": start})
        texts.append((start, answer.content))
    whole = b"1\n2\n3\n4\n5\n6\n7\n8\n"
    assert texts == [(start, whole[start:]) for start, _ in texts]
