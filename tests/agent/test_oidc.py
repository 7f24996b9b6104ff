"""An id token counts if an issuer of the settings signed it for us, for a build, and now; nothing else does."""

import asyncio
import base64
import datetime as dt
import ipaddress
import json
import socket
import ssl
import time

import jwt
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from agent.errors import InvalidIdToken, Rejected, Unavailable
from agent.key_sources import MAX_AGE, MAX_SIZE, PAUSE
from agent.oidc import LEEWAY, IdTokens
from agent.settings.oidc import OidcSettings
from agent.tokens import Scope
from tests.agent.store_steps import Clock
from tests.fakes.issuer import AUDIENCE, JOB, IssuerServer, SigningKey, claims

pytestmark = pytest.mark.anyio
KEY = SigningKey()
OTHER = SigningKey()
EC = SigningKey("elliptic", "ES256")
JWKS = "/oidc/jwks"
DISCOVERY = "/oidc/.well-known/openid-configuration"


@pytest.fixture
def server():
    with IssuerServer(KEY) as server:
        yield server


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def id_tokens(server, clock):
    return IdTokens({"jenkins": trusting(server)}, clock)


def trusting(server, **settings):
    return OidcSettings(**{"issuer": server.issuer, "audience": AUDIENCE, "timeout": 5, **settings})


async def refused(id_tokens, token, words):
    """Assert that the token is refused in these words, and that none of it is in them."""
    with pytest.raises(InvalidIdToken) as refusal:
        await id_tokens.verify(token)
    sentence = str(refusal.value)
    assert words in sentence
    assert not any(part in sentence for part in token.split(".") if len(part) > 5)
    assert refusal.value.__cause__ is None


def encoded(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# --- what is good


@pytest.mark.parametrize("key", [KEY, EC, SigningKey(None)], ids=["RS256", "ES256", "without key id"])
async def test_a_token_of_the_issuer_tells_whose_build_of_which_job_it_is(server, id_tokens, key):
    server.keys = [key]
    told = claims(server.issuer)
    identity = await id_tokens.verify(key.sign(told))
    assert (identity.issuer, identity.subject) == (server.issuer, JOB)
    assert (identity.job, identity.build_number) == ("team/app", 7)
    assert identity.expires_at == told["exp"] + LEEWAY
    assert identity.scopes == {Scope.READ, Scope.WRITE}
    assert identity.lifetime == 12 * 3600


async def test_keys_are_fetched_once_for_many_tokens(server, id_tokens):
    await asyncio.gather(*(id_tokens.verify(server.token(build_number=number)) for number in range(1, 20)))
    assert server.asked == [DISCOVERY, JWKS]


async def test_the_settings_url_of_the_keys_spares_discovery(server):
    server.answers["/elsewhere?all=1"] = 200, {}, server.jwks()
    url = server.issuer.replace("/oidc", "/elsewhere?all=1")
    await IdTokens({"jenkins": trusting(server, jwks_url=url)}).verify(server.token())
    assert server.asked == ["/elsewhere?all=1"]


async def test_one_of_several_audiences_is_enough(server, id_tokens):
    assert await id_tokens.verify(server.token(aud=["others", AUDIENCE]))


async def test_clocks_may_differ_a_little(server, id_tokens):
    now = time.time()
    assert await id_tokens.verify(server.token(exp=now - LEEWAY / 2))
    assert await id_tokens.verify(server.token(iat=now + LEEWAY / 2, nbf=now + LEEWAY / 2))


async def test_a_build_number_may_be_text(server, id_tokens):
    assert (await id_tokens.verify(server.token(build_number="12"))).build_number == 12


async def test_scopes_and_lifetime_are_those_of_the_settings(server):
    settings = trusting(server, scopes=["builds:read"], token_lifetime="2h")
    identity = await IdTokens({"jenkins": settings}).verify(server.token())
    assert (identity.scopes, identity.lifetime) == ({Scope.READ}, 7200)


async def test_the_job_may_be_in_another_claim(server):
    id_tokens = IdTokens({"jenkins": trusting(server, job_claim="job")})
    assert (await id_tokens.verify(server.token(sub="anything", job=JOB))).job == "team/app"
    await refused(id_tokens, server.token(), "claim job is not the URL of a job")


async def test_each_issuer_has_its_own_keys_and_settings(server):
    with IssuerServer(OTHER) as second:
        tables = {"one": trusting(server), "two": trusting(second, audience="two")}
        id_tokens = IdTokens(tables)
        assert (await id_tokens.verify(second.token(aud="two"))).issuer == second.issuer
        await refused(id_tokens, second.token(), "another audience than oidc.two.audience")
        await refused(id_tokens, OTHER.sign(claims(server.issuer)), "not signed by any key")


# --- what is not


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"aud": "somebody"}, "another audience than oidc.jenkins.audience"),
        ({"aud": ["some", "body"]}, "another audience"),
        ({"aud": {"sibling": 1}}, "another audience"),
        ({"aud": []}, "no claim aud"),
        ({"aud": None}, "no claim aud"),
        ({"exp": 1_000_000}, "it has expired"),
        ({"exp": None}, "no claim exp"),
        ({"exp": "soon"}, "malformed"),
        ({"exp": [1]}, "malformed"),
        ({"iat": 9_000_000_000}, "not valid yet"),
        ({"nbf": 9_000_000_000}, "not valid yet"),
        ({"iat": None}, "no claim iat"),
        ({"sub": None}, "no claim sub"),
        ({"sub": ""}, "sub is not the URL of a job"),
        ({"sub": JOB + "7/"}, "sub is not the URL of a job"),
        ({"sub": JOB + "a" * 2000}, "sub is too long"),
        ({"sub": "half \ud800 a pair"}, "no plain text"),
        ({"build_number": None}, "no claim build_number"),
        ({"build_number": 0}, "build_number"),
        ({"build_number": -1}, "build_number"),
        ({"build_number": True}, "build_number"),
        ({"build_number": 1.5}, "build_number"),
        ({"build_number": 2**31}, "build_number"),
        ({"build_number": "7a"}, "build_number"),
        ({"build_number": "\N{ARABIC-INDIC DIGIT SEVEN}"}, "build_number"),
        ({"build_number": "9" * 5000}, "build_number"),
        ({"build_number": [7]}, "build_number"),
        ({"iss": None}, "issuer"),
        ({"iss": "https://evil.example/oidc"}, "issuer"),
        ({"iss": ["https://evil.example/oidc"]}, "issuer"),
        ({"iss": 1}, "issuer"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_claim_that_is_not_as_it_must_be_is_told(server, id_tokens, change, words):
    told = {name: value for name, value in {**claims(server.issuer), **change}.items() if value is not None}
    # Signed by hand, as PyJWT makes no tokens with claims of the wrong type.
    await refused(
        id_tokens, jwt.api_jws.encode(json.dumps(told).encode(), KEY.private, "RS256", {"kid": KEY.kid}), words
    )


async def test_an_end_of_time_is_no_fault(server, id_tokens):
    assert await id_tokens.verify(server.token(exp=10**400))


@pytest.mark.parametrize("url", ["https://jenkins/job/a%2Fb/", "https://jenkins/job/%2e%2e/", "javascript:alert(1)"])
async def test_a_hostile_job_url_is_refused(server, id_tokens, url):
    await refused(id_tokens, server.token(sub=url), "not the URL of a job")


async def test_an_issuer_that_is_not_in_the_settings_is_never_asked(server, id_tokens):
    with IssuerServer(OTHER) as evil:
        await refused(id_tokens, evil.token(), "issuer")
        named = OTHER.sign(claims(server.issuer), jku=f"{evil.issuer}/jwks", x5u=f"{evil.issuer}/jwks")
        await refused(id_tokens, named, "not signed by any key")
        assert evil.asked == []


@pytest.mark.parametrize(
    "change", [str.upper, lambda issuer: issuer + "/", lambda issuer: issuer.replace("127.0.0.1", "localhost")]
)
async def test_an_issuer_is_compared_to_the_letter(server, id_tokens, change):
    await refused(id_tokens, server.token(iss=change(server.issuer)), "issuer")


async def test_without_an_issuer_in_the_settings_every_token_is_refused(server):
    await refused(IdTokens({}), server.token(), "issuer")


async def test_a_token_without_a_signature_is_refused(server, id_tokens):
    told = claims(server.issuer)
    for algorithm in ("none", "None", "NONE", "", None, 5):
        header = encoded({"alg": algorithm, "typ": "JWT", "kid": KEY.kid})
        await refused(id_tokens, f"{header}.{encoded(told)}.", "RS256 or ES256" if algorithm != 5 else "")
    header, payload, _ = server.token().split(".")
    await refused(id_tokens, f"{header}.{payload}.", "not signed by any key")


async def test_the_public_key_is_no_secret_to_sign_with(server, id_tokens):
    public = KEY.private.public_key()
    forms = [
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        json.dumps(KEY.jwk()).encode(),
    ]
    signer = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    for secret in forms:
        for algorithm in ("HS256", "RS256"):
            signed = f"{encoded({'alg': algorithm, 'kid': KEY.kid})}.{encoded(claims(server.issuer))}"
            token = f"{signed}.{encoded(signer.sign(signed.encode(), secret))}"
            await refused(id_tokens, token, "RS256 or ES256" if algorithm == "HS256" else "not signed by any key")


async def test_a_symmetric_key_of_the_issuer_signs_nothing(server, id_tokens):
    secret = {"kty": "oct", "kid": "o", "k": "c2VjcmV0"}
    server.answers[JWKS] = 200, {}, json.dumps({"keys": [KEY.jwk(), secret]}).encode()
    await refused(id_tokens, jwt.encode(claims(server.issuer), "secret" * 6, "HS256", {"kid": "o"}), "RS256 or ES256")


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
async def test_other_algorithms_are_refused_with_the_right_key_too(server, id_tokens, algorithm):
    token = jwt.encode(claims(server.issuer), KEY.private, algorithm, {"kid": KEY.kid})
    await refused(id_tokens, token, "RS256 or ES256")


async def test_a_changed_claim_or_signature_is_refused(server, id_tokens):
    header, payload, signature = server.token().split(".")
    forged = encoded(claims(server.issuer, sub=JOB.replace("app", "prod")))
    await refused(id_tokens, f"{header}.{forged}.{signature}", "not signed by any key")
    swapped = ("B" if signature[0] == "A" else "A") + signature[1:]
    await refused(id_tokens, f"{header}.{payload}.{swapped}", "not signed by any key")


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        "a.b",
        "a.b.c",
        "..",
        "é.é.é",
        "\ud800.a.b",
        f"{encoded(b'[' * 9000)}.{encoded({})}.",
        f"{encoded({'alg': 'RS256'})}.{encoded(b'[' * 9000)}.",
        f"{encoded({'alg': 'RS256'})}.{encoded([1])}.",
        f"{encoded({'alg': 'RS256'})}.{encoded(b'9' * 5000)}.",
        f"{encoded({'alg': 'RS256', 'kid': 5})}.{encoded({})}.",
        f"{encoded({'alg': 'RS256', 'crit': ['x']})}.{encoded({})}.",
        f"{encoded({'alg': 'RS256', 'crit': ['b64'], 'b64': False})}.{encoded({})}.",
    ],
    ids=range(13),
)
async def test_what_is_no_token_is_told_as_that(id_tokens, token):
    await refused(id_tokens, token, "no JSON Web Token")


# --- further claims


@pytest.mark.parametrize(
    ("pattern", "value"),
    [("main", "main"), ("release/*", "release/1.0"), ("**", "a/b/c"), ("true", True), ("5", 5), ("", "")],
)
async def test_a_claim_that_fits_its_pattern_is_good(server, pattern, value):
    id_tokens = IdTokens({"jenkins": trusting(server, claims={"branch": pattern})})
    assert await id_tokens.verify(server.token(branch=value))


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("main", None),
        ("**", None),
        ("main", "mainly"),
        ("main", "Main"),
        ("main", "main\n"),
        ("main", ["main"]),
        ("**", {"a": 1}),
        ("release/*", "release/1/2"),
        ("1", True),
    ],
)
async def test_one_that_does_not_is_refused_with_its_rule(server, pattern, value):
    id_tokens = IdTokens({"jenkins": trusting(server, claims={"branch": pattern})})
    with pytest.raises(Rejected, match=r"claim branch is not what oidc\.jenkins\.claims\.branch asks for") as refusal:
        await id_tokens.verify(server.token(branch=value))
    assert refusal.value.rule == "oidc.jenkins.claims.branch"


async def test_jobs_are_chosen_by_a_pattern_of_their_url(server):
    id_tokens = IdTokens({"jenkins": trusting(server, claims={"sub": "https://jenkins.example/job/team/**"})})
    assert await id_tokens.verify(server.token())
    with pytest.raises(Rejected):
        await id_tokens.verify(server.token(sub="https://jenkins.example/job/other/job/app/"))


# --- keys


async def test_a_new_key_is_found_and_the_one_before_is_good_while_it_is_served(server, id_tokens, clock):
    new = SigningKey("new")
    assert await id_tokens.verify(server.token(KEY))
    server.keys.append(new)
    clock.now += PAUSE
    assert await id_tokens.verify(server.token(new))
    assert await id_tokens.verify(server.token(KEY))
    server.keys.remove(KEY)
    clock.now += MAX_AGE
    assert await id_tokens.verify(server.token(new))
    await refused(id_tokens, server.token(KEY), "not signed by any key")


async def test_a_new_key_under_the_same_id_is_found_as_jenkins_makes_it(server, id_tokens, clock):
    assert await id_tokens.verify(server.token(KEY))
    server.keys = [OTHER]
    assert KEY.kid == OTHER.kid
    clock.now += PAUSE
    assert await id_tokens.verify(server.token(OTHER))
    await refused(id_tokens, server.token(KEY), "not signed by any key")


async def test_strangers_cannot_make_the_service_ask_the_issuer_again_and_again(server, id_tokens, clock):
    for number in range(20):
        await refused(id_tokens, server.token(signing_key_named(f"unknown-{number}")), "try again in some seconds")
        await refused(id_tokens, OTHER.sign(claims(server.issuer)), "not signed by any key")
    assert server.asked == [DISCOVERY, JWKS]
    clock.now += PAUSE
    await asyncio.gather(
        *(refused(id_tokens, server.token(signing_key_named("x")), "not signed") for _ in range(20)),
    )
    assert server.asked == [DISCOVERY, JWKS] * 2


def signing_key_named(kid):
    """Without the time that it takes to make one."""
    named = SigningKey.__new__(SigningKey)
    named.kid, named.algorithm, named.private = kid, "RS256", OTHER.private
    return named


async def test_among_several_keys_a_token_must_name_its_own(server, id_tokens):
    server.keys = [KEY, EC]
    assert await id_tokens.verify(server.token(EC))
    unnamed = jwt.encode(claims(server.issuer), KEY.private, "RS256")
    await refused(id_tokens, unnamed, "with a key id (kid) if the issuer has several keys")


async def test_two_keys_of_one_name_are_told_apart_by_their_algorithm(server, id_tokens):
    twin = SigningKey(KEY.kid, "ES256")
    server.keys = [KEY, twin]
    assert await id_tokens.verify(server.token(KEY))
    assert await id_tokens.verify(server.token(twin))


@pytest.mark.parametrize(
    "change", [{"use": "enc"}, {"alg": "RS512"}, {"kid": 5}, {"n": "!"}, {"n": None}, {"kty": "x"}]
)
async def test_a_key_for_other_uses_or_a_broken_one_is_passed_over(server, id_tokens, change):
    server.answers[JWKS] = 200, {}, json.dumps({"keys": ["x", OTHER.jwk(kid="other"), KEY.jwk(**change)]}).encode()
    await refused(id_tokens, server.token(), "not signed by any key")


async def test_a_key_that_is_too_short_is_passed_over(server, id_tokens):
    short = SigningKey("short", bits=1024)
    server.keys = [KEY, short]
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        token = server.token(short)
    await refused(id_tokens, token, "not signed by any key")


# --- an issuer that cannot be asked


async def test_without_any_key_it_is_told_that_the_issuer_is_away(server, id_tokens, clock):
    server.answers[DISCOVERY] = 503, {}, b""
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"issuer of oidc\.jenkins cannot be had now") as away:
            await id_tokens.verify(server.token())
        assert away.value.retry_after == PAUSE
    assert server.asked == [DISCOVERY]
    server.answers.clear()
    clock.now += PAUSE
    assert await id_tokens.verify(server.token())


async def test_kept_keys_go_on_working_while_the_issuer_is_away(server, id_tokens, clock):
    assert await id_tokens.verify(server.token())
    server.answers[DISCOVERY] = 500, {}, b""
    for _ in range(3):
        clock.now += 10 * MAX_AGE
        assert await id_tokens.verify(server.token())
        with pytest.raises(Unavailable):
            await id_tokens.verify(server.token(signing_key_named("unknown")))


async def test_nothing_listening_is_told_in_the_log_alone(clock):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        issuer = f"http://127.0.0.1:{listener.getsockname()[1]}/oidc"
    id_tokens = IdTokens({"jenkins": OidcSettings(issuer=issuer, audience=AUDIENCE)}, clock)
    with structlog.testing.capture_logs() as lines, pytest.raises(Unavailable) as away:
        await id_tokens.verify(KEY.sign(claims(issuer)))
    assert "refused" in lines[0]["error"]
    assert issuer in lines[0]["error"]
    assert issuer not in str(away.value)


def _hang(handler):
    handler.server.released.wait(60)


def _drip(handler):
    """Headers without end, a byte now and then: no single read of it takes long."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b"x")


def _endless(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not handler.server.released.is_set():
        handler.wfile.write(b" " * 4096)


def _nonsense(handler):
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")


EVIL = "http://127.0.0.2:9/jwks"


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        (JWKS, (302, {"Location": EVIL}, b""), "302 Found to 'http://127.0.0.2:9/jwks', which is not followed"),
        (DISCOVERY, (301, {"Location": EVIL}, b""), "which is not followed"),
        (JWKS, (404, {}, b""), "answered 404"),
        (JWKS, (200, {}, b"x" * (MAX_SIZE + 1)), f"more than {MAX_SIZE} bytes"),
        (JWKS, _endless, f"more than {MAX_SIZE} bytes"),
        (JWKS, _hang, "took longer than 0.3 s"),
        (JWKS, _drip, "took longer than 0.3 s"),
        (JWKS, _nonsense, "did not answer"),
        (JWKS, (200, {}, b""), "no JWKS"),
        (JWKS, (200, {}, b"[" * 100_000), "no JWKS"),
        (JWKS, (200, {}, b"[]"), "no JWKS"),
        (JWKS, (200, {}, b'{"keys": 5}'), "no JWKS"),
        (JWKS, (200, {}, b'{"keys": []}'), "has no RSA key"),
        (JWKS, (200, {}, b'{"keys": "abc"}'), "has no RSA key"),
        (DISCOVERY, (200, {}, b"{}"), "no JSON object with"),
        (DISCOVERY, (200, {}, b'"x"'), "no JSON object with"),
        (DISCOVERY, (200, {}, b'{"issuer": "https://other", "jwks_uri": "x"}'), "of another issuer, 'https://other'"),
        (DISCOVERY, b'{"issuer": "%s", "jwks_uri": "http://127.0.0.2:9/jwks"}', "on another server"),
        (DISCOVERY, b'{"issuer": "%s", "jwks_uri": "file:///etc/passwd"}', "on another server"),
        (DISCOVERY, b'{"issuer": "%s", "jwks_uri": "http://127.0.0.1:99999/"}', "on another server"),
        (DISCOVERY, b'{"issuer": "%s", "jwks_uri": "http://127.0.0.1@127.0.0.2:9/jwks"}', "on another server"),
        (DISCOVERY, b'{"issuer": "%s", "jwks_uri": ["x"]}', "on another server"),
    ],
    ids=range(22),
)
async def test_an_answer_that_is_no_set_of_keys_is_told_in_the_log(server, clock, path, answer, words):
    if isinstance(answer, bytes):
        answer = 200, {}, answer % server.issuer.encode()
    server.answers[path] = answer
    timeout = 0.3 if answer in (_hang, _drip) else 30
    id_tokens = IdTokens({"jenkins": trusting(server, timeout=timeout)}, clock)
    with structlog.testing.capture_logs() as lines, pytest.raises(Unavailable):
        await id_tokens.verify(server.token())
    (line,) = lines
    assert (line["log_level"], line["issuer"]) == ("warning", "oidc.jenkins")
    assert words in line["error"]


# --- https


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that vouches for itself: the server's context, and the file that one may trust."""
    folder = tmp_path_factory.mktemp("certificate")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder(name, name, EC.private.public_key(), 1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(EC.private, hashes.SHA256())
    )
    pem = built.public_bytes(serialization.Encoding.PEM)
    private = EC.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "ca.pem").write_bytes(pem)
    (folder / "both.pem").write_bytes(private + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context, folder / "ca.pem"


async def test_the_server_s_certificate_is_checked_with_the_settings_ca(certificate, clock, tmp_path):
    context, ca = certificate
    with IssuerServer(KEY, tls=context) as server:
        assert await IdTokens({"jenkins": trusting(server, ca_file=ca)}, clock).verify(server.token())
        for file, words in ((None, "certificate verify failed"), (tmp_path / "gone", "No such file")):
            with structlog.testing.capture_logs() as lines, pytest.raises(Unavailable):
                await IdTokens({"jenkins": trusting(server, ca_file=file)}, clock).verify(server.token())
            assert words in lines[0]["error"]


async def test_a_slow_answer_over_tls_is_cut_off_as_well(certificate, clock):
    context, ca = certificate
    with IssuerServer(KEY, tls=context) as server:
        server.answers[JWKS] = _drip
        id_tokens = IdTokens({"jenkins": trusting(server, ca_file=ca, timeout=0.3)}, clock)
        with structlog.testing.capture_logs() as lines, pytest.raises(Unavailable):
            await id_tokens.verify(server.token())
        assert "took longer than 0.3 s" in lines[0]["error"]


# --- keys in a file


async def test_keys_in_a_file_need_no_network_and_a_change_counts_at_once(tmp_path):
    path = tmp_path / "jwks.json"
    issuer = "http://jenkins.example/oidc"
    id_tokens = IdTokens({"jenkins": OidcSettings(issuer=issuer, audience=AUDIENCE, jwks_file=path)})
    with pytest.raises(Unavailable):
        await id_tokens.verify(KEY.sign(claims(issuer)))
    path.write_text(json.dumps({"keys": [KEY.jwk()]}))
    assert await id_tokens.verify(KEY.sign(claims(issuer)))
    path.write_text(json.dumps({"keys": [EC.jwk()]}))
    assert await id_tokens.verify(EC.sign(claims(issuer)))
    await refused(id_tokens, KEY.sign(claims(issuer)), "not signed by any key")


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b" " * (MAX_SIZE + 1), None])
async def test_a_file_that_was_spoiled_leaves_the_keys_that_were_in_it(tmp_path, content):
    path = tmp_path / "jwks.json"
    issuer = "https://jenkins.example/oidc"
    id_tokens = IdTokens({"jenkins": OidcSettings(issuer=issuer, audience=AUDIENCE, jwks_file=path)})
    path.write_text(json.dumps({"keys": [KEY.jwk()]}))
    assert await id_tokens.verify(KEY.sign(claims(issuer)))
    path.unlink() if content is None else path.write_bytes(content)
    with structlog.testing.capture_logs() as lines:
        assert await id_tokens.verify(KEY.sign(claims(issuer)))
    assert lines[0]["log_level"] == "warning"
