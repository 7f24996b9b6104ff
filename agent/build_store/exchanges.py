"""Tokens that builds of a controller got in exchange for their id tokens: each build one, for some hours.

A row stays until neither its token is good nor its id token could be shown again; until then a second exchange is
refused, by another process after a restart too. Of a token's secret only an HMAC is kept, under a key that is made of
the store's. Any method may raise StoreUnavailable.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from agent import token_text
from agent.build_store.table import metadata
from agent.callers import JOB
from agent.errors import Conflict
from agent.tokens import Scope, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sqlalchemy import Connection

    from agent.build_store.database import Database
    from agent.oidc import Identity

exchanges = sa.Table(
    "exchanges",
    metadata,
    sa.Column("id", sa.String(8), primary_key=True),  # the token's
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("issuer", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("build_number", sa.BigInteger, nullable=False),
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("keep_until", sa.Double, nullable=False),
    sa.UniqueConstraint("issuer", "subject", "build_number", name="exchanges_once"),
)
sa.Index("exchanges_retention", exchanges.c.keep_until)

# Seconds that a row is kept longer: clocks are set back at times, and a check and its exchange are not one moment.
_MARGIN = 3600.0
REMEMBERED = 4096  # tokens that are looked up without the disk


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchanged:
    """The token that a build gets: its text, which is nowhere kept, and its end in seconds since the epoch."""

    text: str = field(repr=False)
    token: Token
    expires_at: float


class _Kept(NamedTuple):
    digest: str
    token: Token
    expires_at: float


class Exchanges:
    """See the module. A `TokenVerifier` of what it gave. `clock` tells seconds since 1970."""

    def __init__(
        self, database: Database, key: bytes, clock: Callable[[], float], remembered: int = REMEMBERED
    ) -> None:
        self._database = database
        self._key = hmac.digest(key, b"tokens of exchanges", "sha256")
        self._clock = clock
        self._most = remembered
        self._remembered: dict[str, _Kept] = {}

    def add(self, identity: Identity) -> Exchanged:
        """Give the build its token; it is on the disk when this returns. Raises Conflict if the build had one."""
        token_id, secret = token_text.new()
        now = self._clock()
        expires_at = now + identity.lifetime
        values = {
            "id": token_id,
            "digest": token_text.digest(self._key, secret),
            "issuer": identity.issuer,
            "subject": identity.subject,
            "build_number": identity.build_number,
            "job": identity.job,
            "scopes": sorted(identity.scopes),
            "created_at": now,
            "expires_at": expires_at,
            "keep_until": max(expires_at, identity.expires_at) + _MARGIN,
        }
        with self._database.writing() as connection:
            connection.execute(sa.delete(exchanges).where(exchanges.c.keep_until < now))
            _refuse_second(connection, identity)
            row = connection.execute(sa.insert(exchanges).returning(*exchanges.c), values).one()
        return Exchanged(text=token_text.join(token_id, secret), token=_kept(row).token, expires_at=expires_at)

    def verify(self, text: str) -> Token | None:
        """The token, or None if there is none with this text or its time is over."""
        token_id, secret = token_text.split(text) or ("", text)
        kept = self._remembered.get(token_id) or self._looked_up(token_id)
        right = token_text.is_of(kept.digest if kept else None, self._key, secret)
        return kept.token if kept and right and self._clock() < kept.expires_at else None

    def end_all_but(self, issuers: Collection[str]) -> None:
        """End the tokens of all other issuers: those that are not in the settings any more."""
        with self._database.writing() as connection:
            others = exchanges.c.issuer.not_in(issuers)
            connection.execute(sa.update(exchanges).where(others).values(expires_at=0.0))
        self._remembered.clear()

    def _looked_up(self, token_id: str) -> _Kept | None:
        if not token_id:
            return None
        with self._database.reading() as connection:
            row = connection.execute(sa.select(*exchanges.c).where(exchanges.c.id == token_id)).one_or_none()
        if row is None:
            return None
        if len(self._remembered) >= self._most:
            self._remembered.clear()
        self._remembered[token_id] = _kept(row)
        return self._remembered[token_id]


def _refuse_second(connection: Connection, identity: Identity) -> None:
    """In the transaction of the insert; the unique constraint would refuse it as well, but not in a sentence."""
    same = (
        exchanges.c.issuer == identity.issuer,
        exchanges.c.subject == identity.subject,
        exchanges.c.build_number == identity.build_number,
    )
    if connection.execute(sa.select(exchanges.c.id).where(*same)).one_or_none() is not None:
        raise Conflict(
            f"An id token of {identity.job} #{identity.build_number} was exchanged before, and each build gets one "
            "token. Use the one that it got; if it is lost, run the job again."
        )


def _kept(row: sa.Row[*tuple[object, ...]]) -> _Kept:
    token = Token(
        id=row.id,
        name=f"{JOB}{row.job}",
        scopes=frozenset(map(Scope, row.scopes)),
        created_at=row.created_at,
        job=row.job,
    )
    return _Kept(row.digest, token, row.expires_at)
