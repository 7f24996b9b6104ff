"""Who may call: bearer tokens in a file beside the settings, or one admin token in the data folder.

A token's text is shown once. The file keeps an HMAC of its secret, whose key is in a file beside it, so that neither
alone tells anything. Tokens that builds got for their id tokens are in the build store (`exchanges`).
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import secrets
import time
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer

from agent import token_text
from agent.errors import Conflict, InvalidRequest, InvalidSettings, NotFound
from agent.files.private_file import keep_private, read_private, write_private

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

ADMIN_TOKEN_FILE = "admin-token"  # noqa: S105 - a file name

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class Scope(StrEnum):
    """What a token may do; `admin` may do all, and writing does not include reading."""

    READ = "builds:read"
    WRITE = "builds:write"
    ADMIN = "admin"


class Token(BaseModel):
    """A token as it is known after its creation: without its secret. `created_at` is seconds since the epoch.

    `name` is whose builds and images they are. `job` is the full name of a job on the controller whose build calls, and
    `build` is our build from whose container the call comes; such a caller needed no token at all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str
    scopes: frozenset[Scope]
    created_at: float
    job: str | None = None
    build: str | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether it may do that."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @field_serializer("scopes")
    def _sorted(self, scopes: frozenset[Scope]) -> list[Scope]:
        return sorted(scopes)


class TokenVerifier(Protocol):
    """Tells whose token a text is."""

    def verify(self, text: str) -> Token | None:
        """The token, or None if there is none with this text. Takes no longer for one than for another."""


class _Entry(Token):
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")

    def without_digest(self) -> Token:
        return Token(**self.model_dump(exclude={"digest"}))


class _Content(NamedTuple):
    """Both files as they were when `stamp` was theirs."""

    stamp: tuple[tuple[int, ...], ...]
    key: bytes
    entries: Mapping[str, _Entry]


class TokenFile:
    """Tokens in a file of JSON lines; changes by another process are seen at the next call.

    Safe for many threads and processes. Every method raises InvalidSettings if the file or its key is missing, broken
    or open to others.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key_path = path.with_name(f"{path.name}.key")
        self._known: _Content | None = None

    def create(self, name: str, scopes: Collection[Scope]) -> str:
        """Make a token, and the file if there is none; returns the text, which is nowhere kept.

        Raises InvalidRequest for a name or scopes that no token can have, Conflict if the name is taken.
        """
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"{name!r} is no name for a token; use 1 to 64 letters, digits, '.', '_', '@' or '-'.")
        if not scopes:
            raise InvalidRequest(f"The token {name} would be good for nothing; give it a scope: {', '.join(Scope)}.")
        with self._changing() as (key, entries):
            if any(name in (entry.id, entry.name) for entry in entries.values()):
                raise Conflict(f"There is a token {name} already; revoke it first, or take another name.")
            token_id, secret = token_text.new()
            entries[token_id] = _Entry(
                id=token_id,
                name=name,
                scopes=frozenset(scopes),
                created_at=time.time(),
                digest=token_text.digest(key, secret),
            )
        return token_text.join(token_id, secret)

    def list(self) -> Sequence[Token]:
        """All tokens, oldest first."""
        return [entry.without_digest() for entry in self._current().entries.values()]

    def revoke(self, id_or_name: str) -> Token:
        """End a token; returns what it was. Raises NotFound."""
        self._current()  # a missing file is told as such
        with self._changing() as (_, entries):
            for entry in entries.values():
                if id_or_name in (entry.id, entry.name):
                    return entries.pop(entry.id).without_digest()
            raise NotFound(f"There is no token {id_or_name} in {self._path}; `sibling token list` shows all.")

    def verify(self, text: str) -> Token | None:
        """The token, or None if there is none with this text. Takes no longer for one than for another."""
        token_id, secret = token_text.split(text) or ("", text)
        content = self._current()
        entry = content.entries.get(token_id)
        right = token_text.is_of(entry.digest if entry else None, content.key, secret)
        return entry.without_digest() if entry and right else None

    def _current(self) -> _Content:
        try:
            stamp = (_stamp(self._path), _stamp(self._key_path))
            if self._known is None or self._known.stamp != stamp:
                self._known = _Content(stamp, self._key(), self._entries())
        except FileNotFoundError as error:
            raise InvalidSettings(
                f"There is no {error.filename}; make a token file with `sibling token create`, or set auth.token_file."
            ) from error
        except OSError as error:
            raise InvalidSettings(_unusable(self._path, error)) from error
        return self._known

    @contextmanager
    def _changing(self) -> Iterator[tuple[bytes, dict[str, _Entry]]]:
        """The key and the entries, to be changed in place; they are written when the block ends without an error."""
        try:
            with self._lock():
                entries = self._entries() if self._path.exists() else {}
                yield self._key(), entries
                self._write(entries)
        except OSError as error:
            raise InvalidSettings(_unusable(self._path, error)) from error

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Wait until no other process changes the file. The key is what is locked, as it is never replaced."""
        if self._path.exists() and not self._key_path.exists():
            raise InvalidSettings(
                f"{self._key_path} is gone, and no token of {self._path} is good without it; put the key back, or "
                "delete the token file and create its tokens anew."
            )
        keep_private(self._key_path, lambda: secrets.token_hex(32))
        with self._key_path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _write(self, entries: Mapping[str, _Entry]) -> None:
        owner = self._path.stat() if self._path.exists() else None
        lines = (entry.model_dump_json(exclude_none=True) + "\n" for entry in entries.values())
        write_private(self._path, "".join(lines))
        if owner is not None:
            # The service's user may be another than the admin, who is root, and must still be able to read it.
            os.chown(self._path, owner.st_uid, owner.st_gid)

    def _key(self) -> bytes:
        key = read_private(self._key_path).strip()
        if not re.fullmatch("[0-9a-f]{64}", key):
            raise InvalidSettings(
                f"{self._key_path} is not a key; put the right one back, or delete it and {self._path}, and create the "
                "tokens anew."
            )
        return bytes.fromhex(key)

    def _entries(self) -> dict[str, _Entry]:
        entries = {}
        for number, line in enumerate(read_private(self._path).splitlines(), 1):
            try:
                entry = _Entry.model_validate_json(line)
            except ValidationError as error:
                raise InvalidSettings(
                    f"{self._path}:{number}: this line is not a token; delete it, and create the token anew."
                ) from error
            entries[entry.id] = entry
        return entries


class AdminToken:
    """The one token of a service without a token file, whose text `admin_token` gives."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self._token = Token(id=text[4:12], name="admin", scopes=frozenset({Scope.ADMIN}), created_at=time.time())

    def verify(self, text: str) -> Token | None:
        """The token, or None if there is none with this text. Takes no longer for one than for another."""
        return self._token if hmac.compare_digest(token_text.as_bytes(text), self._text) else None


class FirstOf:
    """Several verifiers as one: a token is whose the first of them says that knows it."""

    def __init__(self, *verifiers: TokenVerifier) -> None:
        self._verifiers = verifiers

    def verify(self, text: str) -> Token | None:
        """The token, or None if none of them has one with this text."""
        return next((token for each in self._verifiers if (token := each.verify(text))), None)


def admin_token(data_dir: Path) -> str:
    """The text of the data folder's admin token, made at the first call. Raises InvalidSettings if it is broken."""
    path = data_dir / ADMIN_TOKEN_FILE
    try:
        keep_private(path, lambda: token_text.join(*token_text.new()) + "\n")
        text = read_private(path).strip()
    except OSError as error:
        raise InvalidSettings(_unusable(path, error)) from error
    if token_text.split(text) is None:
        raise InvalidSettings(f"{path} holds no token; delete it, and the next start makes a new one.")
    return text


def _stamp(path: Path) -> tuple[int, ...]:
    """What is another after every change, of the mode too."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _unusable(path: Path, error: OSError) -> str:
    return (
        f"The token file {path} cannot be used: {error.strerror}: {error.filename}; it must belong to the user that "
        "runs the service, in a folder that is there."
    )
