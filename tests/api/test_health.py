"""What probes and Prometheus get."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.service import VERSION
from tests.api.harness import until

pytestmark = pytest.mark.anyio


FAILED = ("sibling_builds_total", frozenset({"result": "FAILURE", "reason": "exit-code"}.items()))


def samples(text):
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_the_process_answers(held):
    async with held.client_as() as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_a_service_that_has_all_it_needs_is_ready(held):
    async with held.client_as() as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["ready"] is True
    assert {"name": "engine", "ok": True, "reason": None} in answer.json()["checks"]
    assert {"engine", "store"} <= {check["name"] for check in answer.json()["checks"]}


async def test_an_engine_that_is_down_is_named_and_the_process_still_answers(held):
    held.engine.up = False
    await held.service.watch.look()
    async with held.client_as() as client:
        answer = await client.get("/readyz")
        assert (await client.get("/healthz")).status_code == 200
    (engine,) = (check for check in answer.json()["checks"] if check["name"] == "engine")
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert not engine["ok"]
    assert engine["reason"]
    assert (await held.client.get("/v1/status")).json()["engine"]["error"] == engine["reason"]


async def test_a_store_that_is_gone_is_named(held):
    held.service.store.close()
    for path in held.data.glob("builds.db*"):
        path.unlink()
    (held.data / "builds.db").mkdir()
    answer = await held.client.get("/readyz")
    assert answer.status_code == 503
    assert "store" in {check["name"] for check in answer.json()["checks"] if not check["ok"]}


async def test_the_status_shows_the_whole_service(held):
    build = await held.submit()
    await until(lambda: held.service.scheduler.waiting_for)
    status = (await held.client.get("/v1/status")).json()
    assert status["version"] == VERSION
    assert status["service_id"] == held.service.place.service_id
    assert status["engine"]["version"] == "26.0.0"
    assert status["slots"] == {"total": held.settings.queue.slots, "used": 0}
    assert "memory" in status["queue"].pop("waiting_for")
    assert status["queue"] == {"queued": 1, "preparing": 0, "connected": 0, "running": 0}
    assert 0 < status["disk"]["free"] <= status["disk"]["total"]
    assert 0 < status["memory"]["available"] <= status["memory"]["total"]
    assert build["id"] not in str(status)


async def test_metrics_count_builds_and_tell_nothing_of_any_one(api):
    build = await api.finished("fails", labels={"job": "payroll"})
    async with api.client_as() as client:

        async def counted():
            answer = await client.get("/metrics")
            return samples(answer.text).get(FAILED) == 1 and answer

        answer = await until(counted)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert samples(answer.text)["sibling_engine_up", frozenset()] == 1
    assert build["id"] not in answer.text
    assert "payroll" not in answer.text
