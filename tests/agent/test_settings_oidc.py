"""Issuers of id tokens in the settings file; one that could not be trusted is refused with its line."""

import pytest

from agent.settings.oidc import OidcSettings
from agent.tokens import Scope

LEAST = '[oidc.jenkins]\nissuer = "https://jenkins.example.com/oidc"\naudience = "sibling"\n'


def test_an_issuer_needs_its_name_and_an_audience(load):
    (settings,) = load(LEAST).oidc.values()
    assert settings == OidcSettings(issuer="https://jenkins.example.com/oidc", audience="sibling")
    assert settings.scopes == [Scope.READ, Scope.WRITE]
    assert (settings.job_claim, settings.claims, settings.token_lifetime, settings.timeout) == ("sub", {}, 43200, 10)


def test_all_of_them_at_once(load):
    settings = load(
        LEAST + 'jwks_url = "https://10.0.0.5/jwks?x=1"\nca_file = "/ca.pem"\njob_claim = "job"\n'
        'claims = { branch = "main", sub = "https://jenkins.example.com/job/team/**" }\n'
        'scopes = ["builds:read"]\ntoken_lifetime = "7d"\ntimeout = "3s"\n'
    ).oidc["jenkins"]
    assert settings.claims["branch"] == "main"
    assert (settings.scopes, settings.token_lifetime) == ([Scope.READ], 7 * 86400)


@pytest.mark.parametrize("missing", ["issuer", "audience"])
def test_what_is_missing_is_told_with_the_table_s_line(refused, missing):
    text = "\n".join(line for line in LEAST.splitlines() if not line.startswith(missing))
    (sentence,) = refused(text)
    assert sentence.startswith(f"sibling.toml:1: oidc.jenkins.{missing} is missing; write ")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('jwks_url = "http://jenkins.example.com/jwks"', "write an https URL, or an http one of this machine."),
        ('jwks_url = "http://127.0.0.1.evil.example/jwks"', "write an https URL, or an http one of this machine."),
        ('jwks_url = "http://127.0.0.1@evil.example/jwks"', "write an https URL"),
        ('jwks_url = "file:///jwks"', "write an https URL"),
        ('jwks_url = "https://a b/"', "write an https URL"),
        ('jwks_url = "https://a:99999/"', "write an https URL"),
        ('jwks_url = "https:///jwks"', "write an https URL"),
        ("scopes = []", "write a list of `builds:read`, `builds:write`, `admin`."),
        ('scopes = ["root"]', "write a list of"),
        ('token_lifetime = "8d"', "write a duration from 1m to 7d"),
        ('token_lifetime = "10s"', "write a duration from 1m to 7d"),
        ("token_lifetime = true", "write a duration"),
        ("claims = { branch = 5 }", "write a table of claims and patterns"),
        ('job_claim = ""', "write a claim's name."),
        ('jwks_uri = "https://a/"', "did you mean oidc.jenkins.jwks_url?"),
    ],
)
def test_what_is_not_allowed_is_told_with_its_line(refused, line, words):
    (sentence,) = refused(f"{LEAST}{line}\n")
    assert sentence.startswith("sibling.toml:4: ")
    assert words in sentence


@pytest.mark.parametrize(
    "issuer",
    ["jenkins", "ftp://jenkins/oidc", "https://jenkins/oidc?x", "https://jenkins/oidc#x", "https://a@jenkins/"],
)
def test_an_issuer_that_is_none_is_told(refused, issuer):
    (sentence,) = refused(LEAST.replace("https://jenkins.example.com/oidc", issuer))
    assert sentence.startswith("sibling.toml:2: oidc.jenkins.issuer = ")


def test_keys_are_never_looked_for_where_they_could_be_changed_on_the_way(refused, load):
    plain = LEAST.replace("https://", "http://")
    (sentence,) = refused(plain)
    assert sentence.startswith("sibling.toml:2: oidc.jenkins.issuer is an http URL, so what it says of its keys")
    assert load(plain + 'jwks_url = "https://jenkins.example.com/jwks"').oidc
    assert load(plain + 'jwks_file = "/etc/sibling/jwks.json"').oidc
    for host in ("127.0.0.1:8080", "[::1]:8080", "localhost"):
        assert load(plain.replace("jenkins.example.com", host)).oidc


def test_one_issuer_takes_one_table_and_one_source_of_keys(refused):
    (sentence,) = refused(LEAST + LEAST.replace("oidc.jenkins", "oidc.second"))
    assert sentence.startswith("sibling.toml:5: oidc.jenkins has the same issuer")
    (sentence,) = refused(LEAST + 'jwks_url = "https://a/"\njwks_file = "/b"')
    assert sentence.startswith("sibling.toml:5: oidc.jenkins has a jwks_url and a jwks_file; give one of them.")


def test_variables_cannot_give_issuers(refused, monkeypatch):
    monkeypatch.setenv("SIBLING_OIDC__JENKINS__ISSUER", "https://evil.example/oidc")
    (sentence,) = refused(LEAST)
    assert sentence == "SIBLING_OIDC__JENKINS__ISSUER: oidc are given in the settings file alone."
