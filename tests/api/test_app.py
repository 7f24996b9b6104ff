"""The application as a whole, and its OpenAPI."""

import pytest
from pydantic import TypeAdapter

from agent.requests import BuildRequest
from api.views import BuildView

pytestmark = pytest.mark.anyio


def operations(api):
    for path, methods in api.app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


async def test_every_operation_is_named_described_and_has_its_problems(held):
    names = [operation["operationId"] for _, _, operation in operations(held)]
    assert len(names) == len(set(names))
    for path, _, operation in operations(held):
        assert operation["summary"]
        assert operation["description"]
        assert len(operation["tags"]) == 1
        for status, answer in operation["responses"].items():
            problem = (status == "default" or int(status) >= 400) and (path, status) != ("/readyz", "503")
            assert (list(answer.get("content", ())) == ["application/problem+json"]) == problem, (path, status)


async def test_every_reference_in_the_openapi_leads_somewhere(held):
    schema = held.app.openapi()

    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for each in node.values():
                yield from references(each)
        if isinstance(node, list):
            for each in node:
                yield from references(each)

    for reference in references(schema):
        node = schema
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


async def test_the_examples_in_the_openapi_are_true(held):
    post = held.app.openapi()["paths"]["/v1/builds"]["post"]
    for example in post["requestBody"]["content"]["application/json"]["examples"].values():
        BuildRequest.model_validate(example["value"])
    for example in held.app.openapi()["components"]["schemas"]["BuildView"]["examples"]:
        shown = TypeAdapter(BuildView).validate_python(example).model_dump(mode="json", by_alias=True)
        assert {key: shown[key] for key in example if key != "request"} == {
            k: v for k, v in example.items() if k != "request"
        }


async def test_the_openapi_is_served_and_pages_that_need_a_cdn_are_not(held):
    async with held.client_as() as client:
        assert (await client.get("/openapi.json")).json() == held.app.openapi()
        assert (await client.get("/docs")).status_code == 404
        assert (await client.get("/redoc")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v2", 404), ("DELETE", "/v1/builds", 405), ("GET", "/v1/builds/", 404)]
)
async def test_what_is_not_there_is_a_problem_with_the_usual_headers(held, method, path, status):
    answer = await held.client.request(method, path)
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ("allow" in answer.headers) == (status == 405)


async def test_a_body_over_a_mebibyte_is_refused(held):
    answer = await held.client.post("/v1/builds", json={"image": "a", "commands": ["x" * 1024**2]})
    assert answer.status_code == answer.json()["status"] == 413
