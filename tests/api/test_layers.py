"""The layers, each around an application of a few lines."""

import httpx2
import pytest
import structlog
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse

from api.layers import MAX_BODY, AnswerHeaders, BodyLimit, Faults, RequestLog

SECRET = "hunter2-hunter2"


def client_of(app):
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://sibling")


async def say_ok(scope, receive, send):
    await PlainTextResponse("ok")(scope, receive, send)


async def count_body(scope, receive, send):
    size = 0
    async for piece in Request(scope, receive).stream():
        size += len(piece)
    await PlainTextResponse(str(size))(scope, receive, send)


async def fail(scope, receive, send):
    raise ZeroDivisionError(SECRET)


@pytest.mark.anyio
async def test_a_fault_is_a_500_that_tells_nothing_and_a_log_line_that_tells_all():
    with structlog.testing.capture_logs() as lines:
        async with client_of(Faults(fail)) as client:
            answer = await client.get("/v1/builds")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert SECRET not in answer.text
    assert "ZeroDivision" not in answer.text
    assert [line["exc_info"] for line in lines] == [True]


@pytest.mark.anyio
async def test_a_fault_in_the_middle_of_an_answer_does_not_look_like_its_end():
    async def halves():
        yield b"first"
        raise ZeroDivisionError

    async def app(scope, receive, send):
        await StreamingResponse(halves())(scope, receive, send)

    async with client_of(Faults(app)) as client:
        with pytest.raises(ZeroDivisionError):
            await client.get("/")


@pytest.mark.anyio
async def test_every_answer_has_the_headers_and_a_route_keeps_its_own():
    async def app(scope, receive, send):
        await PlainTextResponse("ok", headers={"cache-control": "max-age=60"})(scope, receive, send)

    async with client_of(AnswerHeaders(app)) as client:
        answer = await client.get("/")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers.get_list("cache-control") == ["max-age=60"]


@pytest.mark.anyio
@pytest.mark.parametrize(("size", "status"), [(0, 200), (MAX_BODY, 200), (MAX_BODY + 1, 413)])
@pytest.mark.parametrize("told", [True, False], ids=["with a length", "chunked"])
async def test_a_body_is_read_up_to_the_limit(size, status, told):
    async def pieces():
        for start in range(0, size, 100_000):
            yield bytes(min(100_000, size - start))

    app = FastAPI()
    app.mount("/", count_body)
    app.add_middleware(BodyLimit, unlimited="/v1/sources")
    async with client_of(app) as client:
        answer = await client.put("/", content=bytes(size) if told else pieces())
        unlimited = await client.put("/v1/sources", content=bytes(size) if told else pieces())
    assert answer.status_code == status
    assert unlimited.text == str(size)


@pytest.mark.anyio
async def test_a_body_that_is_told_to_be_too_long_is_not_read():
    async def never():
        raise AssertionError("it was read")
        yield b""

    app = FastAPI()
    app.mount("/", count_body)
    app.add_middleware(BodyLimit, unlimited="/v1/sources")
    async with client_of(app) as client:
        answer = await client.put("/", content=never(), headers={"Content-Length": str(MAX_BODY + 1)})
    assert answer.status_code == 413


@pytest.mark.anyio
@pytest.mark.parametrize("length", ["-1", "many", "1_000", "²"])
async def test_a_length_that_is_no_number_is_left_to_the_server(length):
    scope = {"type": "http", "path": "/", "headers": [(b"content-length", length.encode("latin-1"))]}
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"four", "more_body": False}

    async def send(message):
        sent.append(message)

    await BodyLimit(count_body, "/v1/sources")(scope, receive, send)
    assert sent[1]["body"] == b"4"


@pytest.mark.anyio
async def test_a_request_is_one_line_of_log_without_its_secrets():
    with structlog.testing.capture_logs() as lines:
        async with client_of(RequestLog(say_ok)) as client:
            await client.post(f"/v1/builds?token={SECRET}", headers={"Authorization": SECRET}, json={"secret": SECRET})
    (line,) = lines
    assert (line["method"], line["path"], line["status"], line["log_level"]) == ("POST", "/v1/builds", 200, "info")
    assert line["ms"] >= 0
    assert SECRET not in str(line)


@pytest.mark.anyio
async def test_reads_that_go_well_are_logged_for_debugging_only():
    with structlog.testing.capture_logs() as lines:
        async with client_of(RequestLog(say_ok)) as client:
            await client.get("/healthz")
        async with client_of(RequestLog(Faults(fail))) as client:
            await client.get("/v1/builds")
    levels = [line["log_level"] for line in lines if line["event"] == "request"]
    assert levels == ["debug", "info"]
