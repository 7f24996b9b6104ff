"""Builds over HTTP."""

import asyncio

import httpx2
import pytest

from tests.api.harness import Api, until

pytestmark = pytest.mark.anyio


async def test_a_build_is_accepted_with_its_place_and_all_that_is_known_of_it(held):
    request = {
        "image": "quick",
        "commands": ["make"],
        "secrets": {"TOKEN": "hunter2"},
        "memory": "512m",
        "labels": {"job": "app"},
    }
    answer = await held.client.post("/v1/builds", json=request)
    build = answer.json()
    here = f"/v1/builds/{build['id']}"
    assert (answer.status_code, answer.headers["location"]) == (201, here)
    assert "idempotency-replayed" not in answer.headers
    assert build["links"] == {"self": here, "log": f"{here}/log", "artifacts": f"{here}/artifacts"}
    assert build["request"]["memory"] == 512 * 1024**2
    assert build["request"]["secrets"] == {"TOKEN": "**********"}
    assert build["labels"] == {"job": "app"}
    assert build["created_at"].endswith("Z")
    assert {
        "state": "queued",
        "image": "quick",
        "image_id": None,
        "created_by": "admin",
        "started_at": None,
        "finished_at": None,
        "result": None,
        "reason": None,
        "message": None,
        "exit_code": None,
        "cancel_requested": False,
        "phases": {},
        "artifacts": [],
        "log_size": 0,
    }.items() <= build.items()
    assert (await held.client.get(here)).json() == build


async def test_a_build_that_was_accepted_is_in_the_store_when_the_answer_comes(held):
    build = await held.submit()
    assert held.service.store.get(build["id"]).request.image == "quick"


@pytest.mark.parametrize(
    ("image", "result", "reason", "exit_code"), [("quick", "SUCCESS", None, 0), ("fails", "FAILURE", "exit-code", 3)]
)
async def test_a_build_shows_how_it_ended(api, image, result, reason, exit_code):
    build = await api.finished(image)
    assert (build["result"], build["reason"], build["exit_code"]) == (result, reason, exit_code)
    assert build["started_at"] <= build["finished_at"]
    assert build["log_size"] == len((await api.client.get(build["links"]["log"])).content)
    assert "run" in build["phases"]


async def test_the_same_key_and_body_is_the_same_build(held):
    body, key = {"image": "quick", "argv": ["true"], "secrets": {"X": "1"}}, {"Idempotency-Key": "run-7"}
    first = await held.client.post("/v1/builds", json=body, headers=key)
    again = await held.client.post("/v1/builds", json=body, headers=key)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]


async def test_the_same_key_for_another_body_is_a_conflict(held):
    key = {"Idempotency-Key": "run-7"}
    await held.client.post("/v1/builds", json={"image": "a", "argv": ["x"]}, headers=key)
    answer = await held.client.post("/v1/builds", json={"image": "b", "argv": ["x"]}, headers=key)
    assert answer.status_code == 409
    assert "run-7" in answer.json()["detail"]


async def test_two_tokens_may_use_the_same_key(held):
    body, key = {"image": "a", "argv": ["x"]}, {"Idempotency-Key": "run-7"}
    first = await held.client.post("/v1/builds", json=body, headers=key)
    async with held.client_as("writer") as other:
        second = await other.post("/v1/builds", json=body, headers=key)
    assert second.status_code == 201
    assert second.json()["id"] != first.json()["id"]


async def test_many_posts_of_one_key_at_once_make_one_build(held):
    body, key = {"image": "a", "argv": ["x"]}, {"Idempotency-Key": "run-7"}
    answers = await asyncio.gather(*(held.client.post("/v1/builds", json=body, headers=key) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é", "a\t"])
async def test_a_key_that_is_not_visible_ascii_is_refused(held, key):
    headers = {"Idempotency-Key": key.encode("latin-1")}
    answer = await held.client.post("/v1/builds", json={"image": "a", "argv": ["x"]}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


async def test_a_full_queue_says_when_to_try_again(held):
    for _ in range(3):
        await held.submit()
    answer = await held.client.post("/v1/builds", json={"image": "a", "argv": ["x"]})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"memory": "9g"}, 403, "builds.max_memory"),
        ({"image": "bad image"}, 422, "image"),
        ({"image": "UPPER//case"}, 422, "UPPER"),
        ({"artifacts": ["../x"]}, 422, "../x"),
        ({"source": {"type": "uploaded", "id": "src-" + "0" * 32}}, 422, "src-"),
        ({"unknown": 1}, 422, "unknown"),
    ],
)
async def test_what_could_never_run_is_refused_at_once(held, change, status, words):
    answer = await held.client.post("/v1/builds", json={"image": "quick", "commands": ["x"], **change})
    assert answer.status_code == status
    assert words in answer.text
    assert (await held.client.get("/v1/builds")).json()["builds"] == []


async def test_pages_hold_every_build_once_and_the_newest_first(api):
    ids = [(await api.submit())["id"] for _ in range(5)]
    seen, cursor = [], {}
    for size in (2, 2, 1):
        page = (await api.client.get("/v1/builds", params={"limit": 2, **cursor})).json()
        assert len(page["builds"]) == size
        seen += [build["id"] for build in page["builds"]]
        cursor = {"cursor": page["next"]}
    assert page["next"] is None
    assert seen == sorted(ids, reverse=True)


async def test_a_page_that_is_just_full_is_the_last(held):
    for _ in range(2):
        await held.submit()
    assert (await held.client.get("/v1/builds?limit=2")).json()["next"] is None


async def test_builds_are_found_by_state(api):
    done, open_ = await api.finished(), await api.submit("stays")
    await api.logged(open_, "begun")

    async def ids(query):
        return [build["id"] for build in (await api.client.get(f"/v1/builds?{query}")).json()["builds"]]

    assert await ids("state=finished") == [done["id"]]
    assert await ids("state=preparing&state=running") == [open_["id"]]
    assert await ids("state=queued") == []
    assert await ids("unknown=1") == [open_["id"], done["id"]]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "state=done"])
async def test_a_query_that_makes_no_sense_is_refused(held, query):
    answer = await held.client.get(f"/v1/builds?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith(query.partition("=")[0])


async def test_waiting_ends_with_the_build(api):
    build = await api.submit("stays")
    waiting = asyncio.create_task(api.client.get(f"/v1/builds/{build['id']}?wait=60s", timeout=60))
    await api.logged(build, "begun")
    assert not waiting.done()
    api.goes_on.set()
    assert (await waiting).json()["result"] == "SUCCESS"


async def test_waiting_ends_with_the_time(held):
    build = await held.submit()
    assert (await held.client.get(f"/v1/builds/{build['id']}?wait=0.01")).json()["state"] == "queued"


@pytest.mark.parametrize("wait", ["61", "1m1s", "-1", "soon", "nan", "inf", ""])
async def test_a_wait_that_is_too_long_or_no_time_is_refused(held, wait):
    build = await held.submit()
    answer = await held.client.get(f"/v1/builds/{build['id']}", params={"wait": wait})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "wait"


async def test_a_queued_build_is_cancelled_at_once_and_may_be_cancelled_again(held):
    build = await held.submit()
    first = await held.client.post(f"/v1/builds/{build['id']}/cancel")
    again = await held.client.post(f"/v1/builds/{build['id']}/cancel")
    assert first.json()["result"] == "ABORTED"
    assert again.status_code == 200
    assert again.json()["finished_at"] == first.json()["finished_at"]


async def test_a_running_build_is_asked_to_end(api):
    build = await api.submit("stays")
    await api.logged(build, "begun")
    answer = await api.client.post(f"/v1/builds/{build['id']}/cancel")
    assert answer.status_code == 202
    assert answer.json()["cancel_requested"]
    ended = (await api.client.get(f"/v1/builds/{build['id']}?wait=30", timeout=60)).json()
    assert (ended["result"], ended["reason"]) == ("ABORTED", "cancelled")
    assert (await api.client.post(f"/v1/builds/{build['id']}/cancel")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "?wait=30s"),
        ("POST", "/cancel"),
        ("GET", "/log"),
        ("GET", "/log?follow=true"),
        ("GET", "/artifacts"),
        ("GET", "/artifacts/a"),
    ],
)
async def test_a_build_that_is_not_there_is_not_found(api, method, path):
    for build_id in ("0" * 26, "x", "%00", "..", "%2e%2e", "é", "' OR 1=1", "%ff%fe"):
        answer = await api.client.request(method, f"/v1/builds/{build_id}{path}")
        assert answer.status_code == 404, build_id
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_caller_that_leaves_while_it_waits_leaves_nothing_behind(tmp_path):
    api = Api(tmp_path)
    async with api.listening():
        build = await api.submit("stays")
        await api.logged(build, "begun")
        before = len(asyncio.all_tasks())
        with pytest.raises(httpx2.ReadTimeout):
            await api.client.get(f"/v1/builds/{build['id']}?wait=60s", timeout=0.2)
        await until(lambda: len(asyncio.all_tasks()) <= before)
        api.goes_on.set()
        assert (await api.client.get(f"/v1/builds/{build['id']}?wait=30s")).json()["result"] == "SUCCESS"
