"""Image references as Docker reads them, and the patterns that settings match them with. Pure.

The grammar is that of distribution/reference: `[domain/]path[:tag][@digest]`, where the first part is a domain only if
it holds a dot or a colon, or is `localhost`; everything else is on docker.io, and one bare word below `library/`.
What is full stays the same when it is read again, so that nobody after us reads another name. A port is part of the
domain: `registry.example` and `registry.example:443` are two registries, to Docker's logins, too.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import InvalidRequest
from agent.patterns import below, glob

if TYPE_CHECKING:
    from collections.abc import Collection

_DOMAIN = re.compile(
    r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*"
    r"(?::[0-9]{1,5})?|\[[0-9a-fA-F]*:[0-9a-fA-F:]*\](?::[0-9]{1,5})?"
)
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
# Of images that builds made and that only the engine has: no registry (RFC 6762 keeps .local out of the DNS).
PRIVATE = "sibling.local"
MAX_NAME = 255  # distribution/reference, NameTotalLengthMax


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference in full. With a digest the tag says nothing, and is None."""

    domain: str
    path: str
    tag: str | None
    digest: str | None

    @property
    def name(self) -> str:
        """Domain and path, such as `docker.io/library/python`."""
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def parse(text: str) -> Reference:
    """The reference in full that `text` means to Docker. Raises InvalidRequest.

    An image id is refused: it would name an image without saying whose it is, past any pattern.
    """
    if _ID.fullmatch(text):
        raise InvalidRequest(f"{text!r} is an image id; name the image instead, such as python:3.12")
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidRequest(f"{text!r} is not an image: {digest!r} is not a sha256 or sha512 digest")
    name, tag = _split_tag(rest)
    domain, path = _split_domain(name)
    if not _DOMAIN.fullmatch(domain) or not all(_PART.fullmatch(part) for part in path.split("/")):
        raise InvalidRequest(f"{text!r} is not an image; write it as registry.example/team/app:1.0 or python:3.12")
    if tag is not None and not _TAG.fullmatch(tag):
        raise InvalidRequest(f"{text!r} is not an image: {tag!r} is not a tag")
    if len(domain) + 1 + len(path) > MAX_NAME:
        raise InvalidRequest(f"{text[:40]!r}... is not an image: its name is over {MAX_NAME} characters")
    return Reference(domain, path, None if digest else tag or "latest", digest or None)


def registry(text: str) -> str:
    """The registry's name as references have it. Raises InvalidRequest for what is no host with a port if need be."""
    domain, path = _split_domain(f"{text}/x/x")
    if path != "x/x" or not _DOMAIN.fullmatch(domain):
        raise InvalidRequest(f"{text!r} is not a registry; write its host, such as registry.example:5000 or docker.io")
    return domain


def matches(reference: Reference, pattern: str) -> bool:
    """Whether a pattern (see `agent.patterns`) covers the reference; one without a tag covers every tag and digest.

    It is read like a reference: one without a domain is on docker.io. A pattern with a tag never covers a digest, since
    a digest does not say which tag it was.
    """
    name, tag = split_pattern(pattern)
    if not glob(name).fullmatch(reference.name):
        return False
    return tag is None or (reference.tag is not None and glob(tag).fullmatch(reference.tag) is not None)


def covers(pattern: str, domain: str) -> bool:
    """Whether the pattern covers any image of the registry."""
    name, _ = split_pattern(pattern)
    return bool(below(name, f"{domain}/"))


def split_pattern(pattern: str) -> tuple[str, str | None]:
    """Its pattern of full names, and that of tags, if it has one."""
    name, tag = _split_tag(pattern)
    return name if name == "**" or name.startswith("**/") else "/".join(_split_domain(name)), tag


def _split_tag(text: str) -> tuple[str, str | None]:
    name, colon, tag = text.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (text, None)


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, path = name.partition("/")
    domain = first.lower()
    # A lone `*` is in patterns only, for any domain; `team-*` has no dot, so it cannot be one.
    if not slash or not (set(domain) & set(".:[") or domain in ("localhost", "*")):
        return "docker.io", name if slash else f"library/{name}"
    if domain in ("index.docker.io", "docker.io"):
        return "docker.io", path if "/" in path else f"library/{path}"
    return domain, path


def push_mark(tag: str) -> str:
    """A name that an image has beside the one by which somebody pushes it, for others to know that it is not there."""
    digest = hashlib.sha256(str(parse(tag)).encode()).hexdigest()
    return f"{PRIVATE}/push:{digest}"


def is_lent(name: str, names: Collection[str]) -> bool:
    """Whether an image, which has these names, has this one only for as long as somebody pushes it: see `push_mark`."""
    return _ID.fullmatch(name) is None and push_mark(name) in names
