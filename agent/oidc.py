"""Id tokens of builds (OpenID Connect Core 1.0, section 2), and what they prove: whose build of which job it is.

Jenkins' plugin oidc-provider issues them. Only issuers of the settings count. The claim `iss` of a token that is not
verified yet picks the settings, and leads nowhere; nor does anything else in it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt

from agent import job_url, patterns
from agent.errors import InvalidIdToken, Rejected
from agent.jwks import Keys
from agent.key_sources import key_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.jwks import Algorithm
    from agent.settings.oidc import OidcSettings
    from agent.tokens import Scope

LEEWAY = 30.0  # seconds by which the issuer's clock and ours may differ
MAX_BUILD_NUMBER = 2**31 - 1  # hudson.model.Run.number is an int
MAX_SUBJECT = 2000  # characters
_LATEST = 2**53  # seconds since the epoch: more than a float can count one by one

_ALGORITHMS: dict[Any, Algorithm] = {"RS256": "RS256", "ES256": "ES256"}
_REASONS: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
    (jwt.ExpiredSignatureError, "it has expired; take a new one from its credential"),
    (jwt.ImmatureSignatureError, "it is not valid yet; compare the clocks of its issuer and of this service"),
    (jwt.InvalidAudienceError, "it is for another audience than oidc.{name}.audience"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What an id token proved, and what its issuer's settings grant for it.

    `expires_at` is until when the id token can be shown, in seconds since the epoch; `lifetime`, in seconds, is how
    long the token is good that it is exchanged for.
    """

    issuer: str
    subject: str
    job: str
    build_number: int
    expires_at: float
    scopes: frozenset[Scope]
    lifetime: float


class _Issuer:
    """One table of the settings, with the issuer's keys."""

    def __init__(self, name: str, settings: OidcSettings, keys: Keys) -> None:
        self.name = name
        self.settings = settings
        self.keys = keys
        self.patterns = {claim: patterns.glob(pattern) for claim, pattern in settings.claims.items()}


class IdTokens:
    """Verifies id tokens of the issuers in the settings, which are given by table. For one event loop.

    `clock` tells seconds from any start on.
    """

    def __init__(self, tables: Mapping[str, OidcSettings], clock: Callable[[], float] = time.monotonic) -> None:
        self._issuers = {
            each.issuer: _Issuer(name, each, Keys(name, key_source(each), clock)) for name, each in tables.items()
        }

    async def verify(self, id_token: str) -> Identity:
        """What the id token proves.

        Raises InvalidIdToken, Rejected if a claim is not what the settings ask for, and Unavailable if no kept key
        fits and its issuer cannot be asked for newer ones.
        """
        header, claims = _unverified(id_token)
        issuer = self._issuers.get(claims["iss"]) if isinstance(claims.get("iss"), str) else None
        if issuer is None:
            raise _invalid("its issuer (iss) is none of those that this service knows, oidc.*.issuer in its settings")
        algorithm = _ALGORITHMS.get(header.get("alg"))
        if algorithm is None:
            raise _invalid("it is not signed with RS256 or ES256")
        return _identity(issuer, await _verified(issuer, id_token, header.get("kid"), algorithm))


def _unverified(id_token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the token says of itself: header and claims, that anyone could have written."""
    try:
        told = jwt.decode_complete(id_token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        # Without the cause, whose text may hold parts of the token.
        raise _invalid("it is no JSON Web Token") from None
    return told["header"], told["payload"]


async def _verified(issuer: _Issuer, id_token: str, kid: str | None, algorithm: Algorithm) -> dict[str, Any]:
    async for key in issuer.keys.candidates(kid, algorithm):
        try:
            claims: dict[str, Any] = jwt.decode(
                id_token,
                key,
                algorithms=[algorithm],
                audience=issuer.settings.audience,
                issuer=issuer.settings.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iat", "sub", "aud"]},
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.MissingRequiredClaimError as error:
            raise _invalid(f"it has no claim {error.claim}") from None
        except (jwt.PyJWTError, ValueError) as error:
            told = (words for kind, words in _REASONS if isinstance(error, kind))
            raise _invalid(next(told, "one of its claims is malformed").format(name=issuer.name)) from None
        return claims
    raise _invalid(
        "it is not signed by any key that its issuer publishes; if the key is new, try again in some seconds, with a "
        "key id (kid) if the issuer has several keys"
    )


def _identity(issuer: _Issuer, claims: dict[str, Any]) -> Identity:
    settings, subject = issuer.settings, claims["sub"]
    if len(subject) > MAX_SUBJECT or not subject.isprintable():
        raise _invalid("its claim sub is too long, or is no plain text")
    url = claims.get(settings.job_claim)
    job = job_url.full_name(url) if isinstance(url, str) else None
    if job is None:
        raise _invalid(f"its claim {settings.job_claim} is not the URL of a job")
    number = _build_number(claims.get("build_number"))
    if number is None:
        raise _invalid("it has no claim build_number that is a build's number")
    for claim, pattern in issuer.patterns.items():
        value = _text(claims.get(claim))
        if value is None or not pattern.fullmatch(value):
            rule = f"oidc.{issuer.name}.claims.{claim}"
            raise Rejected(rule, f"The id token's claim {claim} is not what {rule} asks for.")
    return Identity(
        issuer=settings.issuer,
        subject=subject,
        job=job,
        build_number=number,
        expires_at=min(int(claims["exp"]), _LATEST) + LEEWAY,
        scopes=frozenset(settings.scopes),
        lifetime=settings.token_lifetime,
    )


def _build_number(value: object) -> int | None:
    """The number that an integer claim holds, or a text claim, which a template of the plugin can make of it."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 10:
        value = int(value)
    is_number = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_BUILD_NUMBER
    return value if is_number and isinstance(value, int) else None


def _text(value: object) -> str | None:
    """A claim as patterns see it; None if it is missing, or is a list or an object."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int)) else None


def _invalid(what: str) -> InvalidIdToken:
    return InvalidIdToken(f"The id token is refused: {what}.")
