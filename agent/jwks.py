"""An issuer's public keys: parsed from its JWKS (RFC 7517), kept, and looked for again when one is missing.

Keys that are kept go on working while the issuer cannot be asked. Whatever strangers send, it is asked no more often
than its source allows.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from agent.errors import Unavailable
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

Algorithm = Literal["RS256", "ES256"]
PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey

_log = structlog.get_logger()
_RSA_BITS = range(2048, 8193)  # RFC 7518, 3.3 sets the least; more than this only costs time


class KeysUnreadable(Exception):
    """Why a source gives no keys, for the service's log alone."""


class Key(NamedTuple):
    """A public key of an issuer. `kid` is what its id tokens call it."""

    kid: str | None
    algorithm: Algorithm
    public: PublicKey


class KeySource(Protocol):
    """Where an issuer's JWKS comes from. `pause` and `max_age` are in seconds.

    Between two looks lies a `pause`, whatever they showed. What is older than `max_age` is looked at anew, so that a
    key that the issuer has withdrawn is not trusted for much longer.
    """

    pause: float
    max_age: float

    def load(self) -> bytes:
        """The document. Takes its time; raises KeysUnreadable."""


class Keys:
    """The keys of one issuer, which `name` stands for in sentences. For one event loop."""

    def __init__(self, name: str, source: KeySource, clock: Callable[[], float]) -> None:
        self._name = name
        self._source = source
        self._clock = clock
        self._lock = asyncio.Lock()
        self._known: Sequence[Key] = ()
        self._looked_at = -math.inf
        self._fault: str | None = None

    async def candidates(self, kid: str | None, algorithm: Algorithm) -> AsyncIterator[PublicKey]:
        """What may have signed a token: keys of that id, or the only one if there is none.

        Go on until one fits. Once the known ones are through, the issuer is asked, for Jenkins gives a new key the id
        of the one before. Raises Unavailable at the end if it could not be asked.
        """
        if self._clock() - self._looked_at >= self._source.max_age:
            await self._look()
        tried = self._matching(kid, algorithm)
        for key in tried:
            yield key
        await self._look()
        for key in self._matching(kid, algorithm):
            if key not in tried:
                yield key
        if self._fault is not None:
            left = self._looked_at + self._source.pause - self._clock()
            raise Unavailable(
                f"The keys of the issuer of oidc.{self._name} cannot be had now, and the service's log says why. "
                "Try again later.",
                retry_after=max(1, math.ceil(left)),
            )

    def _matching(self, kid: str | None, algorithm: Algorithm) -> list[PublicKey]:
        if kid is None and len(self._known) > 1:
            return []
        return [key.public for key in self._known if key.algorithm == algorithm and kid in {None, key.kid}]

    async def _look(self) -> None:
        """Load the keys anew, unless that was just done."""
        async with self._lock:
            if self._clock() - self._looked_at < self._source.pause:
                return
            try:
                self._known = parse(await in_thread(self._source.load))
                self._fault = None
            except KeysUnreadable as error:
                self._fault = str(error)
                _log.warning("the keys of an issuer cannot be had", issuer=f"oidc.{self._name}", error=self._fault)
            self._looked_at = self._clock()


def parse(document: bytes) -> list[Key]:
    """The keys of a JWKS that may sign id tokens; others are passed over. Raises KeysUnreadable if it has none."""
    try:
        entries = json.loads(document)["keys"]
        keys = [key for entry in entries if isinstance(entry, dict) and (key := _key(entry))]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise KeysUnreadable("this is no JWKS: a JSON object with a list `keys`") from error
    if not keys:
        raise KeysUnreadable("its JWKS has no RSA key of 2048 bits or more and no P-256 key")
    return keys


def _key(entry: dict[str, Any]) -> Key | None:
    """The key of an entry; None if it is not for RS256 or ES256, or broken. A private one is taken as public."""
    algorithm: Algorithm = "ES256" if entry.get("kty") == "EC" else "RS256"
    kid = entry.get("kid")
    if entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm:
        return None
    if kid is not None and not isinstance(kid, str):
        return None
    try:
        public = _rsa(entry) if entry.get("kty") == "RSA" else _ec(entry)
    except (ValueError, LookupError, TypeError):
        return None
    return None if public is None else Key(kid, algorithm, public)


def _rsa(entry: dict[str, Any]) -> RSAPublicKey | None:
    public = RSAPublicNumbers(_number(entry["e"]), _number(entry["n"])).public_key()
    return public if public.key_size in _RSA_BITS else None


def _ec(entry: dict[str, Any]) -> EllipticCurvePublicKey | None:
    if entry.get("kty") != "EC" or entry.get("crv") != "P-256":
        return None
    return EllipticCurvePublicNumbers(_number(entry["x"]), _number(entry["y"]), SECP256R1()).public_key()


def _number(text: Any) -> int:
    """A number in base64, in either alphabet and of any length: oidc-provider writes those of EC keys as Java does."""
    if not isinstance(text, str):
        raise TypeError("a number is text in base64")
    standard = text.rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    return int.from_bytes(base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True))
