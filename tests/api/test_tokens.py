"""Builds of a controller come with an id token, and leave with a token for this service."""

import asyncio
import datetime as dt
import json

import pytest
import structlog

from tests.api import client_process
from tests.api.harness import NEVER, Api
from tests.fakes.issuer import AUDIENCE, IssuerServer, SigningKey, claims

pytestmark = pytest.mark.anyio
KEY = SigningKey()
QUEUE = {"min_free_memory": NEVER, "min_free_disk": 1}


@pytest.fixture
def issuer():
    with IssuerServer(KEY) as server:
        yield server


def trusting(issuer, **settings):
    return {"jenkins": {"issuer": issuer.issuer, "audience": AUDIENCE, **settings}}


@pytest.fixture
async def api(tmp_path, issuer):
    async with Api(tmp_path, queue=QUEUE, oidc=trusting(issuer)).running() as running:
        yield running


async def exchange(api, id_token):
    async with api.client_as() as client:
        return await client.post("/v1/tokens", json={"id_token": id_token})


async def ask(api, token, method="GET", path="/v1/builds", **more):
    async with api.client_as() as client:
        return await client.request(method, path, headers={"Authorization": f"Bearer {token}"}, **more)


async def test_an_id_token_is_exchanged_for_a_token_under_which_builds_belong_to_the_job(api, issuer):
    before = dt.datetime.now(dt.UTC)
    answer = await exchange(api, issuer.token())
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert set(body) == {"token", "name", "expires_at"}
    assert body["name"] == "job:team/app"
    hours = (dt.datetime.fromisoformat(body["expires_at"]) - before).total_seconds() / 3600
    assert 11.9 < hours < 12.1
    posted = await ask(api, body["token"], "POST", json={"image": "quick", "argv": ["true"]})
    assert (posted.status_code, posted.json()["created_by"]) == (201, "job:team/app")
    assert (await ask(api, body["token"])).status_code == 200
    assert (await ask(api, body["token"], "POST", "/v1/drain")).status_code == 403


@pytest.mark.parametrize(
    ("scopes", "statuses"),
    [(["builds:read"], (200, 403, 403)), (["builds:write"], (403, 201, 403)), (["admin"], (200, 201, 202))],
)
async def test_the_token_allows_what_the_issuer_s_settings_say(tmp_path, issuer, scopes, statuses):
    async with Api(tmp_path, queue=QUEUE, oidc=trusting(issuer, scopes=scopes)).running() as api:
        token = (await exchange(api, issuer.token())).json()["token"]
        answers = [
            await ask(api, token),
            await ask(api, token, "POST", json={"image": "quick", "argv": ["true"]}),
            await ask(api, token, "POST", "/v1/drain"),
        ]
    assert tuple(answer.status_code for answer in answers) == statuses


async def test_a_second_exchange_is_refused_also_at_the_same_moment(api, issuer):
    answers = await asyncio.gather(*(exchange(api, issuer.token()) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    refusal = next(answer for answer in answers if answer.status_code == 409).json()
    assert refusal["type"] == "urn:sibling:problem:conflict"
    assert "team/app #7 was exchanged before" in refusal["detail"]
    (won,) = (answer.json()["token"] for answer in answers if answer.status_code == 201)
    assert (await ask(api, won)).status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"aud": "others"}, 401, "another audience"),
        ({"exp": 1000}, 401, "has expired"),
        ({"iss": "https://others"}, 401, "issuer"),
        ({"build_number": None}, 401, "build_number"),
        ({"sub": "https://jenkins.example/job/team%2Fapp/"}, 401, "URL of a job"),
    ],
)
async def test_a_refusal_is_a_problem_that_says_what_is_wrong_and_shows_nothing_of_the_id_token(
    api, issuer, change, status, words
):
    token = issuer.token(**change)
    answer = await exchange(api, token)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["type"] == "urn:sibling:problem:invalid-id-token"
    assert words in answer.json()["detail"]
    assert not any(part in answer.text for part in token.split("."))


async def test_a_claim_that_policy_forbids_names_its_rule(tmp_path, issuer):
    settings = trusting(issuer, claims={"branch": "main"})
    async with Api(tmp_path, queue=QUEUE, oidc=settings).running() as api:
        answer = await exchange(api, issuer.token(branch="feature"))
        assert (await exchange(api, issuer.token(branch="main"))).status_code == 201
    assert answer.status_code == 403
    assert answer.json()["rule"] == "oidc.jenkins.claims.branch"


async def test_without_the_issuer_s_keys_it_says_when_to_try_again(api, issuer):
    issuer.answers["/oidc/jwks"] = 500, {}, b""
    answer = await exchange(api, issuer.token())
    assert answer.status_code == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert issuer.issuer not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id_token": ""},
        {"id_token": None},
        {"id_token": ["eyJhbGciOi"]},
        {"id_token": "eyJhbGciOi" * 2000},
        {"eyJhbGciOi": 1},
        [],
    ],
    ids=range(7),
)
async def test_a_body_without_an_id_token_is_refused_and_not_shown(api, body):
    async with api.client_as() as client:
        answer = await client.post("/v1/tokens", json=body)
    assert answer.status_code == 422
    assert "eyJhbGciOi" not in answer.text


async def test_a_body_that_is_too_large_is_not_read(api):
    async with api.client_as() as client:
        answer = await client.post("/v1/tokens", content=b"x" * (1024**2 + 1))
    assert answer.status_code == 413


async def test_a_service_without_issuers_trusts_no_id_token(tmp_path, issuer):
    async with Api(tmp_path, queue=QUEUE).running() as api:
        assert (await exchange(api, issuer.token())).status_code == 401
    assert issuer.asked == []


async def test_neither_token_is_in_the_log_and_the_job_is(api, issuer):
    good, bad = issuer.token(), issuer.token(aud="others")
    with structlog.testing.capture_logs() as lines:
        token = (await exchange(api, good)).json()["token"]
        await exchange(api, bad)
        await exchange(api, good)
        await ask(api, token)
    assert not any(part in str(lines) for part in (*good.split("."), *bad.split("."), token.split("_", 2)[2]))
    assert {"event": "id token exchanged", "log_level": "info", "name": "job:team/app", "token": token[4:12]} in lines
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["status"], line["token"]) for line in requests] == [
        (201, "job:team/app"),
        (401, None),
        (409, None),
        (200, "job:team/app"),
    ]


async def test_a_restart_keeps_the_token_good_and_the_second_exchange_refused(tmp_path, issuer):
    api = Api(tmp_path, queue=QUEUE, oidc=trusting(issuer))
    async with api.running():
        token = (await exchange(api, issuer.token())).json()["token"]
    async with api.running():
        assert (await ask(api, token)).status_code == 200
        assert (await exchange(api, issuer.token())).status_code == 409


async def test_tokens_of_an_issuer_that_left_the_settings_are_refused_from_the_next_start_on(tmp_path, issuer):
    api = Api(tmp_path, queue=QUEUE, oidc=trusting(issuer))
    async with api.running():
        token = (await exchange(api, issuer.token())).json()["token"]
    api.settings = api.settings.model_copy(update={"oidc": {}})
    async with api.running():
        assert (await ask(api, token)).status_code == 401


async def test_the_keys_may_come_from_a_file(tmp_path):
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [KEY.jwk()]}))
    issuer = "https://jenkins.example/oidc"
    oidc = {"jenkins": {"issuer": issuer, "audience": AUDIENCE, "jwks_file": tmp_path / "jwks.json"}}
    async with Api(tmp_path, queue=QUEUE, oidc=oidc).running() as api:
        assert (await exchange(api, KEY.sign(claims(issuer)))).status_code == 201


async def test_the_client_of_a_build_needs_nothing_but_its_id_token(tmp_path, issuer):
    api = Api(tmp_path, oidc=trusting(issuer))
    async with api.listening() as address:
        env = client_process.environment(
            SIBLING_URL=address, SIBLING_ID_TOKEN=issuer.token(), SIBLING_CACHE_DIR=str(tmp_path / "cache")
        )
        for _ in range(2):
            ran = await asyncio.to_thread(client_process.run, "run", "--image", "quick", "--", "true", env=env)
            assert (ran.returncode, ran.stdout[:6]) == (0, b"hello\n"), ran.stderr
        listed = await asyncio.to_thread(client_process.run, "ps", "--all", "--json", env=env)
    assert [build["created_by"] for build in json.loads(listed.stdout)] == ["job:team/app"] * 2
