"""Grants: who may push which images, and who may use Docker how. Pure.

Whoever is in no grant may do neither. Only where there are no grants at all a token of the scope `admin` may push
everywhere, and use Docker but for the host's own socket, so that a service of one user needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import references
from agent.errors import Rejected
from agent.patterns import glob
from agent.tokens import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.fields import DockerLevel
    from agent.references import Reference
    from agent.settings.grants import GrantSettings
    from agent.tokens import Token

RULE = "grants"


def may_push(token: Token, reference: str, grants: Mapping[str, GrantSettings]) -> Reference:
    """The full reference that the caller may push. Raises InvalidRequest if it is none, Rejected if it may not.

    What names a digest cannot be pushed, with or without a tag: a registry itself tells the digest of what it is given.
    """
    wanted = references.parse(reference)
    if wanted.digest is not None:
        raise Rejected(RULE, f"{reference} names a digest, and only tags can be pushed; leave out @{wanted.digest}")
    if not grants and token.allows(Scope.ADMIN):
        return wanted
    patterns = push_patterns(token, grants)
    if not any(references.matches(wanted, pattern) for pattern, _ in patterns):
        raise Rejected(RULE, f"{_who(token)} may not push {wanted}; {_cure(token, patterns)}")
    return wanted


def push_patterns(token: Token, grants: Mapping[str, GrantSettings]) -> list[tuple[str, str]]:
    """Patterns of what the caller may push, each with the name of its grant."""
    return [(pattern, name) for name, grant in grants.items() if _is_for(grant, token) for pattern in grant.push]


def check_docker(token: Token, level: DockerLevel, grants: Mapping[str, GrantSettings]) -> None:
    """Raise Rejected if the caller's builds may not have this of Docker; `none` they may."""
    if level == "none" or (not grants and level != "host" and token.allows(Scope.ADMIN)):
        return
    if any(level in grant.docker for grant in grants.values() if _is_for(grant, token)):
        return
    cure = _ask_for(token, f"docker = [{level!r}]")
    raise Rejected(RULE, f"{_who(token)} may not use docker = {level!r}; no grant is for that. {cure}")


def _is_for(grant: GrantSettings, token: Token) -> bool:
    """A job's token is granted what its job is; its name is no token's."""
    patterns, name = (grant.tokens, token.name) if token.job is None else (grant.jobs, token.job)
    return any(glob(pattern).fullmatch(name) for pattern in patterns)


def _who(token: Token) -> str:
    return f"the token {token.name}" if token.job is None else f"the job {token.job}"


def _cure(token: Token, patterns: list[tuple[str, str]]) -> str:
    if patterns:
        allowed = ", ".join(f"{pattern} (grants.{name})" for pattern, name in patterns)
        return f"it may push {allowed}. Take such a name, or ask an admin for a grant."
    return f"no grant is for it. {_ask_for(token, 'push = [...]')}"


def _ask_for(token: Token, what: str) -> str:
    key, name = ("tokens", token.name) if token.job is None else ("jobs", token.job)
    return f"An admin can give one: [grants.NAME] with {key} = [{name!r}] and {what}."
