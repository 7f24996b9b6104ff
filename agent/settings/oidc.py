"""The settings of issuers of id tokens, such as Jenkins with its plugin oidc-provider."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 - pydantic needs it at run time
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from agent.fields import Duration, Text, parse_duration
from agent.settings.section import Section, conflict, is_loopback
from agent.tokens import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping


def is_guarded(url: str) -> bool:
    """Whether nobody on the way can change what that URL answers: it is https, or on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def _url(url: str) -> str:
    parts = urlsplit(url)
    # `port` raises ValueError if it is none.
    if not re.fullmatch(r"https?://[!-~]+", url) or re.search(r"[#@\\]", url) or not parts.hostname or parts.port == 0:
        raise ValueError("is not an http or https URL")
    return url


def _issuer(url: str) -> str:
    if "?" in _url(url):
        raise ValueError("has a query")  # OpenID Connect Core 2, `iss`
    return url


def _guarded(url: str) -> str:
    if not is_guarded(_url(url)):
        raise ValueError("could be changed on the way")
    return url


ClaimName = Annotated[Text, Field(min_length=1, max_length=256)]
_Lifetime = Annotated[float, BeforeValidator(parse_duration), Field(ge=60, le=7 * 24 * 3600, allow_inf_nan=False)]


class OidcSettings(Section):
    """Issuers whose id tokens builds exchange for tokens of this service, a table for each; see [oidc.md](oidc.md).

    NAME is up to 63 lower-case letters, digits or `-`, the first a letter or digit. The tables are given in the
    settings file alone.
    """

    issuer: Annotated[str, AfterValidator(_issuer)] = Field(
        json_schema_extra={"allowed": "an http or https URL, such as `https://jenkins.example.com/oidc`"},
        description="The claim `iss` of its id tokens, to the letter.",
    )
    audience: Annotated[Text, Field(min_length=1)] = Field(
        json_schema_extra={"allowed": "text that is not empty"},
        description="What the claim `aud` must be, or hold: what the id token is for.",
    )
    jwks_url: Annotated[str, AfterValidator(_guarded)] | None = Field(
        None,
        json_schema_extra={"allowed": "an https URL, or an http one of this machine"},
        description="Where its public keys are; found by `<issuer>/.well-known/openid-configuration` if not given.",
    )
    jwks_file: Path | None = Field(
        None, description="File of its public keys; then nothing is fetched. A change of it counts at once."
    )
    ca_file: Path | None = Field(
        None,
        description="File of the CA certificates that the issuer's server is checked with; the usual if not given.",
    )
    job_claim: ClaimName = Field(
        "sub",
        json_schema_extra={"allowed": "a claim's name"},
        description="The claim that holds the URL of the job, of which the token's name is made: `job:team/app`.",
    )
    claims: dict[ClaimName, Text] = Field(
        {},
        max_length=100,
        json_schema_extra={
            "allowed": "a table of claims and patterns; in a pattern `*` stands for any characters but `/`, `**` for "
            'any, such as `{ sub = "https://jenkins.example.com/job/team/**" }`'
        },
        description="What further claims must be; an id token that lacks one is refused.",
    )
    scopes: Annotated[list[Scope], Field(min_length=1)] = Field(
        [Scope.READ, Scope.WRITE],
        json_schema_extra={"allowed": f"a list of {', '.join(f'`{scope}`' for scope in Scope)}"},
        description="What the tokens allow.",
    )
    token_lifetime: _Lifetime = Field(12 * 3600, description="How long the tokens are good; as long as builds take.")
    timeout: Duration = Field(10, description="How long fetching the keys may take.")


def check_issuers(tables: Mapping[str, OidcSettings]) -> None:
    """Raise `conflict` for tables that make no sense."""
    names: dict[str, str] = {}
    for name, each in tables.items():
        at = f"oidc.{name}"
        if (other := names.setdefault(each.issuer, name)) != name:
            raise conflict(f"oidc.{other} has the same issuer; one issuer takes one table.", f"{at}.issuer")
        if each.jwks_url is not None and each.jwks_file is not None:
            raise conflict(f"{at} has a jwks_url and a jwks_file; give one of them.", f"{at}.jwks_file")
        if each.jwks_url is None and each.jwks_file is None and not is_guarded(each.issuer):
            raise conflict(
                f"{at}.issuer is an http URL, so what it says of its keys could be changed on the way; give {at}."
                f"jwks_url with an https URL, or {at}.jwks_file.",
                f"{at}.issuer",
            )
