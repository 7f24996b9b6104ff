"""Who may do what."""

import httpx2
import pytest
import structlog

from agent.tokens import AdminToken, Scope, admin_token
from api.app import create_app

pytestmark = pytest.mark.anyio
REQUEST = {"image": "quick", "argv": ["true"]}
OPEN = {"/healthz", "/readyz", "/metrics", "/cli", "/cli/sibling", "/v1/tokens"}
NO_BUILD = "/v1/builds/" + "0" * 26


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "sbl_aaaaaaaa_x",
        "Bearer sbl_aaaaaaaa_" + "x" * 43,
        "Bearer é",
        "Bearer \t",
    ],
)
async def test_without_a_good_token_nobody_gets_in(held, header):
    async with held.client_as() as client:
        headers = {} if header is None else {"Authorization": header.encode("latin-1")}
        answer = await client.get("/v1/builds", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_every_operation_but_the_open_ones_needs_a_token(held):
    async with held.client_as() as client:
        for path, operations in held.app.openapi()["paths"].items():
            for method in operations:
                answer = await client.request(method, path.replace("{build_id}", "0" * 26), json=REQUEST)
                assert (answer.status_code == 401) == (path not in OPEN), path


@pytest.mark.parametrize(
    ("who", "method", "path", "status"),
    [
        ("reader", "GET", "/v1/builds", 200),
        ("reader", "GET", "/v1/status", 200),
        ("reader", "POST", "/v1/builds", 403),
        ("reader", "POST", NO_BUILD + "/cancel", 403),
        ("reader", "PUT", "/v1/sources", 403),
        ("writer", "POST", "/v1/builds", 201),
        ("writer", "POST", NO_BUILD + "/cancel", 404),
        ("writer", "PUT", "/v1/sources", 422),
        ("writer", "GET", "/v1/builds", 403),
        ("writer", "GET", NO_BUILD, 403),
        ("writer", "GET", NO_BUILD + "/log", 403),
        ("writer", "GET", NO_BUILD + "/artifacts", 403),
        ("writer", "GET", NO_BUILD + "/artifacts/a", 403),
        ("writer", "GET", "/v1/status", 403),
        ("admin", "GET", "/v1/builds", 200),
        ("admin", "POST", "/v1/builds", 201),
    ],
)
async def test_a_token_may_do_what_its_scopes_say(held, who, method, path, status):
    async with held.client_as(who) as client:
        answer = await client.request(method, path, json=REQUEST if path == "/v1/builds" and method == "POST" else None)
    assert answer.status_code == status
    if status == 403:
        missing = "builds:write" if who == "reader" else "builds:read"
        assert missing in answer.json()["detail"]
        assert missing in answer.headers["www-authenticate"]


async def test_a_lacking_scope_comes_before_what_is_wrong_with_the_request(held):
    async with held.client_as("reader") as client:
        assert (await client.post("/v1/builds", json={})).status_code == 403


async def test_a_revoked_token_is_refused_at_once(held):
    async with held.client_as("reader") as client:
        assert (await client.get("/v1/builds")).status_code == 200
        held.tokens.revoke("reader")
        assert (await client.get("/v1/builds")).status_code == 401


async def test_a_build_carries_the_name_of_the_token_that_posted_it(held):
    async with held.client_as("writer") as client:
        assert (await client.post("/v1/builds", json=REQUEST)).json()["created_by"] == "writer"


async def test_the_admin_token_of_the_data_folder_works(held):
    app = create_app(held.service, AdminToken(admin_token(held.data)))
    headers = {"Authorization": f"bearer {admin_token(held.data)}"}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://sibling") as client:
        assert (await client.get("/v1/builds", headers=headers)).status_code == 200


async def test_the_request_log_names_the_token_and_never_shows_it(held):
    with structlog.testing.capture_logs() as lines:
        await held.client.get("/v1/builds")
        async with held.client_as("writer") as client:
            await client.get("/v1/builds")
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["token"] for line in requests] == ["admin", "writer"]
    assert not any(text in str(lines) for text in held.texts.values())


async def test_without_a_token_file_the_service_cannot_tell_who_calls_and_gives_no_path_away(held):
    held.tokens._path.unlink()
    answer = await held.client.get("/v1/builds")
    assert answer.status_code == 503
    assert "sibling token create" in answer.json()["detail"]
    assert str(held.tokens._path) not in answer.text


async def test_every_scope_is_told_in_the_openapi(held):
    (scheme,) = held.app.openapi()["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert all(str(scope) in scheme["description"] for scope in Scope)
