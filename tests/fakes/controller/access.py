"""Who calls, and what they may: API tokens, passwords with their sessions and crumbs, permissions by name."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass, field

ADMINISTER = "Overall/Administer"
PERMISSIONS = {
    ADMINISTER: "hudson.model.Hudson.Administer",
    "Overall/Read": "hudson.model.Hudson.Read",
    "Agent/Create": "hudson.model.Computer.Create",
    "Agent/Connect": "hudson.model.Computer.Connect",
    "Agent/Disconnect": "hudson.model.Computer.Disconnect",
    "Agent/Configure": "hudson.model.Computer.Configure",
    "Agent/Delete": "hudson.model.Computer.Delete",
    "Job/Create": "hudson.model.Item.Create",
    "Job/Configure": "hudson.model.Item.Configure",
    "Job/Delete": "hudson.model.Item.Delete",
    "Job/Read": "hudson.model.Item.Read",
    "Job/Build": "hudson.model.Item.Build",
    "Job/Cancel": "hudson.model.Item.Cancel",
    "Run/Update": "hudson.model.Run.Update",
}
_IMPLIED_BY = {"Agent/Connect": "Agent/Disconnect"}


class Unauthorized(Exception):
    """Credentials that are no good: 401, whatever the page."""


@dataclass
class User:
    name: str
    password: str
    tokens: set[str] = field(default_factory=set)
    permissions: set[str] = field(default_factory=set)

    def may(self, permission: str) -> bool:
        held = self.permissions
        return ADMINISTER in held or permission in held or _IMPLIED_BY.get(permission) in held


@dataclass(frozen=True)
class Caller:
    """`user` is None for anonymous. Whoever came with a token needs no crumb."""

    user: User | None
    by_token: bool = False

    @property
    def name(self) -> str:
        return self.user.name if self.user else "anonymous"

    def may(self, permission: str) -> bool:
        return self.user is not None and self.user.may(permission)


class Access:
    """The users. Not locked by itself: the simulator's lock is held by whoever calls."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self._salt = secrets.token_hex(8)

    def add(self, name: str, *, password: str, token: str | None, permissions: set[str]) -> User:
        self.check(permissions)
        user = User(name, password, {token} if token else set(), set(permissions))
        self.users[name] = user
        return user

    def check(self, permissions: set[str]) -> None:
        unknown = permissions - set(PERMISSIONS)
        if unknown:
            raise ValueError(f"no such permission: {', '.join(sorted(unknown))}")

    def caller(self, authorization: str | None) -> Caller:
        """Raises Unauthorized for a header that names nobody."""
        if authorization is None:
            return Caller(None)
        kind, _, encoded = authorization.partition(" ")
        try:
            name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Unauthorized from None
        user = self.users.get(name)
        if kind.lower() != "basic" or user is None or secret not in {*user.tokens, user.password}:
            raise Unauthorized
        return Caller(user, by_token=secret in user.tokens)

    def crumb(self, caller: Caller, session: str) -> str:
        return hashlib.sha256(f"{caller.name}:{session}:{self._salt}".encode()).hexdigest()

    def forget_sessions(self) -> None:
        """After a restart no crumb of before is good."""
        self._salt = secrets.token_hex(8)
