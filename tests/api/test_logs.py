"""Logs over HTTP: in parts, as a stream, as server-sent events."""

import asyncio
import json

import httpx2
import pytest

from agent.engine import Stream
from api.logs import MAX_PART
from tests.api.harness import Api, until

pytestmark = pytest.mark.anyio
SSE = {"Accept": "text/event-stream"}


def log_of(build):
    return f"/v1/builds/{build['id']}/log"


def events_in(text):
    """The events of a stream as (name, id, data); comments are skipped."""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            yield fields["event"], fields.get("id"), json.loads(fields["data"])


async def next_event(lines):
    """The next event of a running stream."""
    block = []
    async for line in lines:
        if line:
            block.append(line)
        elif block:
            (event,) = events_in("\n".join(block) + "\n\n")
            return event
    raise EOFError


async def test_a_finished_log_comes_whole_and_says_that_it_is(api):
    build = await api.finished()
    answer = await api.client.get(log_of(build))
    assert answer.content.startswith(b"hello\noops\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-text-size"] == str(len(answer.content)) == str(build["log_size"])
    assert "x-more-data" not in answer.headers


async def test_a_growing_log_is_read_on_from_where_the_last_part_ended(api):
    build = await api.submit("stays")
    await api.logged(build, "begun\n")
    first = await api.client.get(log_of(build))
    assert first.headers["x-more-data"] == "true"
    size = int(first.headers["x-text-size"])
    empty = await api.client.get(log_of(build), params={"start": size})
    assert (empty.content, empty.headers["x-text-size"], empty.headers["x-more-data"]) == (b"", str(size), "true")
    api.goes_on.set()
    await api.logged(build, "done\n")
    assert b"done\n" in (await api.client.get(log_of(build), params={"start": size})).content


async def test_a_large_log_comes_in_parts_that_make_the_whole(api):
    written = bytes(range(256)) * 9000
    api.add_image("large", (Stream.STDOUT, written))
    build = await api.finished("large")
    read, more = b"", True
    while more:
        answer = await api.client.get(log_of(build), params={"start": len(read)})
        assert 0 < len(answer.content) <= MAX_PART
        read += answer.content
        assert answer.headers["x-text-size"] == str(len(read))
        more = "x-more-data" in answer.headers
    assert read.startswith(written)
    assert len(read) == build["log_size"]


@pytest.mark.parametrize("query", ["", "&follow=true"])
@pytest.mark.parametrize("headers", [{}, SSE], ids=["text", "events"])
@pytest.mark.parametrize("start", [10**6, 2**63, 10**100])
async def test_a_start_beyond_the_end_is_refused(api, query, headers, start):
    build = await api.finished()
    answer = await api.client.get(f"{log_of(build)}?start={start}{query}", headers=headers)
    assert answer.status_code == 416
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("start", ["-1", "x", "1.5", ""])
async def test_a_start_that_is_no_offset_is_refused(api, start):
    build = await api.finished()
    assert (await api.client.get(log_of(build), params={"start": start})).status_code == 422


async def test_an_answer_cannot_run_as_a_page(api):
    build = await api.finished()
    for headers in ({}, SSE):
        answer = await api.client.get(log_of(build), headers=headers)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]


async def test_following_begun_while_queued_gets_every_byte_to_the_end(tmp_path):
    api = Api(tmp_path, queue={"min_free_disk": 1, "slots": 1})
    async with api.listening():
        blocker, build = await api.submit("stays"), await api.submit()
        await api.logged(blocker, "begun")
        async with api.client.stream("GET", log_of(build), params={"follow": "true"}) as answer:
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert (await api.client.get(f"/v1/builds/{build['id']}")).json()["state"] == "queued"
            api.goes_on.set()
            followed = b"".join([piece async for piece in answer.aiter_bytes()])
        assert followed == (await api.client.get(log_of(build))).content
        assert followed.startswith(b"hello\noops\n")


async def test_following_shows_what_is_written_while_the_build_still_runs(tmp_path):
    api = Api(tmp_path)
    async with api.listening():
        build = await api.submit("stays")
        async with api.client.stream("GET", log_of(build), params={"follow": "true"}) as answer:
            pieces = answer.aiter_bytes()
            seen = b""
            while b"begun\n" not in seen:
                seen += await anext(pieces)
            api.goes_on.set()
            async for piece in pieces:
                seen += piece
        assert seen == (await api.client.get(log_of(build))).content


async def test_following_from_an_offset_gives_the_rest(api):
    build = await api.finished()
    whole = (await api.client.get(log_of(build))).content
    for start in (0, 3, len(whole)):
        answer = await api.client.get(log_of(build), params={"follow": "true", "start": start})
        assert answer.content == whole[start:]


async def test_proxies_are_told_to_pass_a_stream_on_at_once(api):
    build = await api.finished()
    for headers in ({}, SSE):
        answer = await api.client.get(f"{log_of(build)}?follow=true", headers=headers)
        assert answer.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("headers", [{}, SSE], ids=["text", "events"])
async def test_a_follower_of_a_build_cancelled_while_queued_is_let_go(held, headers):
    build = await held.submit()
    following = asyncio.create_task(held.client.get(f"{log_of(build)}?follow=true", headers=headers))
    await held.client.post(f"/v1/builds/{build['id']}/cancel")
    answer = await following
    assert "cancelled" in answer.text
    if headers:
        name, _, ended = list(events_in(answer.text))[-1]
        assert (name, ended["result"]) == ("end", "ABORTED")


async def test_events_carry_text_stream_and_time_and_end_with_the_build(api):
    build = await api.finished()
    answer = await api.client.get(log_of(build), headers={"Accept": "text/html, Text/Event-Stream;q=0.9"})
    *logs, (name, _, ended) = events_in(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert {event for event, _, _ in logs} == {"log"}
    assert "".join(data["text"] for _, _, data in logs).encode() == (await api.client.get(log_of(build))).content
    assert {data["stream"] for _, _, data in logs} <= {"stdout", "stderr", "sibling"}
    assert all(build["created_at"] <= data["at"] <= build["finished_at"] for _, _, data in logs)
    assert [int(offset) for _, offset, _ in logs] == sorted({int(offset) for _, offset, _ in logs})
    assert logs[-1][1] == str(build["log_size"])
    assert (name, ended) == ("end", (await api.client.get(f"/v1/builds/{build['id']}")).json())


@pytest.mark.parametrize(
    "resume", [{"headers": {**SSE, "Last-Event-ID": "{}"}}, {"headers": SSE, "params": {"start": "{}"}}]
)
async def test_events_resume_after_any_of_their_ids(api, resume):
    build = await api.finished()
    logs = list(events_in((await api.client.get(log_of(build), headers=SSE)).text))[:-1]
    whole = (await api.client.get(log_of(build))).content
    for _, offset, _ in [(None, "0", None), *logs]:
        asked = json.loads(json.dumps(resume).replace("{}", offset))
        rest = list(events_in((await api.client.get(log_of(build), **asked)).text))
        assert "".join(data["text"] for name, _, data in rest if name == "log").encode() == whole[int(offset) :]
        assert rest[-1][0] == "end"


async def test_the_last_event_id_counts_more_than_the_start_of_the_first_request(api):
    build = await api.finished()
    headers = {**SSE, "Last-Event-ID": str(build["log_size"])}
    answer = await api.client.get(log_of(build), params={"start": 0}, headers=headers)
    assert [name for name, _, _ in events_in(answer.text)] == ["end"]


@pytest.mark.parametrize(("last", "status"), [("x", 422), ("-1", 422), ("1e3", 422), ("", 422), ("1000000", 416)])
async def test_a_last_event_id_that_is_no_offset_of_the_log_is_refused(api, last, status):
    build = await api.finished()
    answer = await api.client.get(log_of(build), headers={**SSE, "Last-Event-ID": last})
    assert answer.status_code == status
    assert answer.json()["status"] == status


async def test_characters_cut_in_two_between_pieces_are_whole_in_events(tmp_path):
    api = Api(tmp_path)
    api.add_image("cut", (Stream.STDOUT, b"caf\xc3"), api.goes_on, (Stream.STDOUT, b"\xa9 \xff \xe2\x82"))
    async with api.listening():
        build = await api.submit("cut")
        async with api.client.stream("GET", log_of(build), headers=SSE) as answer:
            lines = answer.aiter_lines()
            seen = [await next_event(lines)]
            api.goes_on.set()
            while seen[-1][0] != "end":
                seen.append(await next_event(lines))
        assert "".join(data["text"] for name, _, data in seen if name == "log").startswith("caf\u00e9 \ufffd ")


async def test_who_followed_live_is_told_the_result_and_not_the_moment_before_it(tmp_path):
    api = Api(tmp_path)
    async with api.listening():
        build = await api.submit("stays")
        await api.logged(build, "begun")
        async with api.client.stream("GET", log_of(build), headers=SSE) as answer:
            lines = answer.aiter_lines()
            await next_event(lines)
            api.goes_on.set()
            while (event := await next_event(lines))[0] != "end":
                pass
        assert (event[2]["state"], event[2]["result"]) == ("finished", "SUCCESS")


async def test_line_ends_and_colons_in_a_log_do_not_break_events(api):
    text = "data: x\n\nevent: end\r\n\r: id: 5\u2028\x00\n"
    api.add_image("sly", (Stream.STDOUT, text.encode()))
    build = await api.finished("sly")
    events = list(events_in((await api.client.get(log_of(build), headers=SSE)).text))
    assert [name for name, _, _ in events].count("end") == 1
    assert "".join(data["text"] for name, _, data in events if name == "log").startswith(text)


@pytest.mark.parametrize("headers", [{}, SSE], ids=["text", "events"])
async def test_a_follower_that_leaves_leaves_nothing_behind(tmp_path, headers):
    api = Api(tmp_path)
    async with api.listening() as address:
        build = await api.submit("stays")
        await api.logged(build, "begun")
        before = len(asyncio.all_tasks())
        async with (
            httpx2.AsyncClient(base_url=address, headers=api.headers("admin") | headers) as other,
            other.stream("GET", log_of(build), params={"follow": "true"}) as answer,
        ):
            await anext(answer.aiter_bytes())
        await until(lambda: len(asyncio.all_tasks()) <= before)
        api.goes_on.set()
        await api.logged(build, "done")


async def test_the_log_of_a_deleted_build_is_not_found(api):
    build = await api.finished()
    api.service.store.delete_finished(before=2**40)
    assert (await api.client.get(log_of(build))).status_code == 404
    assert (await api.client.get(log_of(build), headers=SSE)).status_code == 404
