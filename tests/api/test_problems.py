"""Errors as problems, on an application of a few lines with the real request model."""

import importlib
import json
import pkgutil
import re

import httpx2
import pytest
import structlog
from fastapi import FastAPI

import agent
from agent import errors
from agent.requests import BuildRequest
from api import problems

SECRET = "hunter2-$ecr3t"


def subclasses(kind):
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


for module in pkgutil.iter_modules(agent.__path__):
    importlib.import_module(f"agent.{module.name}")  # some have errors of their own
KINDS = list(subclasses(errors.AgentError))


def make(kind):
    return kind("builds.cpus", "it is not") if issubclass(kind, errors.Rejected) else kind("it is not")


async def answer_to(error, path="/"):
    app = FastAPI()
    problems.install(app)

    @app.get(path)
    async def route():
        raise error

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://sibling") as client:
        return await client.get(path)


@pytest.fixture(scope="module")
def posting():
    app = FastAPI()
    problems.install(app)

    @app.post("/v1/builds")
    async def route(request: BuildRequest, number: int = 0):
        return request

    return app


async def post(app, body, **more):
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://sibling") as client:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return await client.post("/v1/builds", content=content, headers=headers, **more)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_of_its_own_or_of_its_kind(kind):
    nearest = next(each for each in kind.__mro__ if each in problems.STATUS)
    assert nearest is not errors.AgentError


@pytest.mark.anyio
@pytest.mark.parametrize("kind", problems.STATUS, ids=lambda kind: kind.__name__)
async def test_every_error_is_told_as_a_problem(kind):
    answer = await answer_to(make(kind))
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code == problem["status"] >= 400
    assert re.fullmatch(r"about:blank|urn:sibling:problem:[a-z]+(-[a-z]+)*", problem["type"])
    assert ("it is not" in problem["detail"]) == (answer.status_code != 500)
    assert problems.Problem.model_validate(problem)


@pytest.mark.anyio
async def test_a_rejection_names_its_rule():
    problem = (await answer_to(errors.Rejected("builds.max_memory", "too much"))).json()
    assert problem == {
        "type": "urn:sibling:problem:rejected",
        "title": "Rejected",
        "status": 403,
        "detail": "too much",
        "instance": "/",
        "rule": "builds.max_memory",
    }


@pytest.mark.anyio
async def test_unavailable_says_when_to_try_again():
    answer = await answer_to(errors.Unavailable("full", retry_after=7))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [errors.InvalidSettings, errors.AgentError])
async def test_trouble_that_is_ours_goes_into_the_log_and_not_into_the_answer(kind):
    with structlog.testing.capture_logs() as lines:
        answer = await answer_to(kind(SECRET))
    assert answer.status_code == 500
    assert SECRET not in answer.text
    assert SECRET in lines[0]["error"]


@pytest.mark.anyio
async def test_what_is_not_there_and_what_cannot_be_done_are_problems_too(posting):
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(posting), base_url="http://sibling") as client:
        missing, wrong = await client.get("/v2/a b"), await client.put("/v1/builds")
    assert missing.json()["title"] == "Not Found"
    assert missing.json()["instance"] == "/v2/a%20b"
    assert wrong.json()["title"] == "Method Not Allowed"
    assert wrong.headers["allow"] == "POST"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"memory": "lots"}, "memory", "this is not a size; write bytes"),
        ({"memroy": 1}, "memroy", "Extra inputs are not permitted"),
        ({"env": {"1X": "a"}}, "env", "this is not a variable name"),
        ({"env": {"X": "a\0"}}, "env.X", "must not hold a NUL byte"),
        ({"secrets": {"X": ""}}, "secrets.X", "a secret must not be empty"),
        ({"source": {"type": "svn"}}, "source", "Input tag this found using 'type' does not match any of the expected"),
        ({"source": {"type": "git", "url": "x"}}, "source.git.url", "String should match pattern"),
        ({"argv": ["a"]}, "", "give either commands (shell lines) or argv"),
        ({"image": None}, "image", "Input should be a valid string"),
        ({"timeout": "soon"}, "timeout", "this is not a duration"),
    ],
)
async def test_a_wrong_request_is_told_field_by_field(posting, change, field, words):
    answer = await post(posting, {"image": "a", "commands": ["b"], **change})
    (error,) = answer.json()["errors"]
    assert answer.status_code == 422
    assert error["field"] == field
    assert words in error["message"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"", 422),
        (b"[]", 422),
        (b'{"image": NaN}', 422),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b"9" * 5000, 400),
    ],
)
async def test_a_body_that_is_no_request_is_a_problem(posting, body, status):
    answer = await post(posting, body)
    assert answer.status_code == status
    assert problems.Problem.model_validate(answer.json()).status == status


@pytest.mark.anyio
@pytest.mark.parametrize(
    "change",
    [
        *({name: SECRET} for name in BuildRequest.model_fields if name not in {"image", "workdir"}),
        {"secrets": [f"TOKEN={SECRET}"]},
        {"secrets": {SECRET: "TOKEN"}},
        {"env": {SECRET: "TOKEN"}},
        {"secrets": {"TOKEN": SECRET}, "env": {"TOKEN": "x"}},
        {"source": {"type": SECRET}},
        {"source": {"type": "git", "url": f"https://me:{SECRET}@example.com/"}},
        {"source": {"type": "git", "url": "https://example.com/", "password": [SECRET]}},
        {"source": {"type": "uploaded", "id": SECRET}},
        {"concurrency": {"key": "a", "limit": SECRET}},
    ],
    ids=str,
)
async def test_a_secret_in_the_wrong_place_is_not_in_the_answer(posting, change):
    answer = await post(posting, {"image": "a", "commands": ["b"], **change})
    assert answer.status_code == 422
    assert SECRET not in answer.text


@pytest.mark.anyio
async def test_a_secret_in_a_query_is_not_in_the_answer(posting):
    answer = await post(posting, {"image": "a", "commands": ["b"]}, params={"number": SECRET})
    assert answer.status_code == 422
    assert SECRET not in answer.text
    assert answer.json()["instance"] == "/v1/builds"
