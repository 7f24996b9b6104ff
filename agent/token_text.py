"""A token's text, `sbl_<id>_<secret>`, and what is kept of it: an HMAC-SHA-256 of the secret. Pure; serves `tokens`.

Secrets have 256 random bits: a slow hash, as for passwords, would add nothing.
"""

from __future__ import annotations

import hmac
import re
import secrets

_TEXT = re.compile(r"sbl_([a-z0-9]{8})_([A-Za-z0-9_-]{43})")
_ID_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_NO_DIGEST = "0" * 64


def new() -> tuple[str, str]:
    """A new token's id and secret."""
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(8)), secrets.token_urlsafe(32)


def join(token_id: str, secret: str) -> str:
    """The text that its holder gets."""
    return f"sbl_{token_id}_{secret}"


def split(text: str) -> tuple[str, str] | None:
    """Id and secret; None if the text is no token's."""
    match = _TEXT.fullmatch(text)
    return (match[1], match[2]) if match else None


def digest(key: bytes, secret: str) -> str:
    """What is kept of a secret, as 64 hexadecimal digits."""
    return hmac.digest(key, as_bytes(secret), "sha256").hex()


def is_of(kept: str | None, key: bytes, secret: str) -> bool:
    """Whether `kept` is the digest of that secret. With None it is of none, and finding out takes as long."""
    return hmac.compare_digest(digest(key, secret), kept or _NO_DIGEST)


def as_bytes(text: str) -> bytes:
    """What a stranger sends may be any text, half surrogate pairs included."""
    return text.encode("utf-8", "surrogatepass")
