"""Which images and URLs a Dockerfile may use, as a source policy that BuildKit itself keeps. Pure.

Read and tried with BuildKit 0.13 (Docker 26.1), `sourcepolicy/engine.go`: every source of a build, however its
Dockerfile came to it, is held against every rule, and the last of ALLOW and DENY that matches wins; a CONVERT that
changes something begins anew with the changed source. It is held twice: as the Dockerfile names it, and once more with
the digest that the registry told for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent import references
from agent.errors import Rejected
from agent.patterns import below, expression

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# What may read a Dockerfile in BuildKit's place (`# syntax=`). BuildKit runs such images with no limits and with the
# network, and takes any instructions from them, so others would lead past `images.memory` and all.
FRONTENDS = ("docker/dockerfile", "docker/dockerfile-upstream")

Rule = dict[str, Any]

_IMAGE = "docker-image://"
_DIGEST = "@[^/@]+"
_ANY = f"(:[^/:@]+)?({_DIGEST})?"  # any tag and digest
# BuildKit's last word on a denied source. Only its end counts: before it there may be text out of the Dockerfile.
_DENIED = re.compile(r'source "([^"\s]+)" denied by policy: source denied by policy\s*$')
# Images have such an attribute only when they are fetched; by then the digest is the registry's word.
_FETCHED = {"key": "image.resolvemode", "condition": "NOTEQUAL"}
_FRONTEND = {"key": "image.recordtype", "value": "frontend"}
# The words that BuildKit has before that for what it knows already and is about to fetch.
_FETCHING = "error evaluating the source policy"


def source_policy(
    allowed: Sequence[str],
    *,
    own: Iterable[str],
    mirrors: Mapping[str, str],
    allow_remote_add: bool,
    aliases: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """BuildKit's source policy: what `allowed` covers (see `references.matches`), and `own`, which are full references.

    `mirrors` are what is pulled from in a registry's place: see `Registries.mirrors`. `aliases` are full references
    that stand for others, of `own`; unlike a named context, an alias cannot be run as a frontend.
    """
    patterns = _with_mirrored(allowed, mirrors)
    return {
        "version": 1,
        "rules": [
            _rule("DENY", ""),
            _rule("ALLOW", "^local://"),
            *([_rule("ALLOW", "^(http|https|git)://")] if allow_remote_add else []),
            *_allowing(patterns),
            _rule("DENY", f"^{_IMAGE}(?i:{re.escape(references.PRIVATE)})/"),
            *_allowing(own),
            *_frontends(_with_mirrored(FRONTENDS, mirrors)),
            *(_alias(alias, reference) for alias, reference in (aliases or {}).items()),
            *(_mirror(host, mirror) for host, mirror in mirrors.items()),
        ],
    }


def refusal(error: str, allowed: Sequence[str]) -> Rejected | None:
    """What a build's last word means if it is that the policy denied a source; None if it is anything else.

    `error` is BuildKit's own `failed to solve: ...`: what a RUN step says is not to be asked.
    """
    found = _DENIED.search(error)
    if found is None:
        return None
    source = found[1]
    if not source.startswith(_IMAGE):
        return Rejected(
            "images.allow_remote_add",
            f"ADD of {source} is not allowed here; put it into the context, or RUN a download",
        )
    image = source.removeprefix(_IMAGE)
    if _FETCHING in error:
        readers = " and ".join(FRONTENDS)
        return Rejected(
            "images.allowed_bases", f"image {image} cannot be the syntax of a Dockerfile here; only {readers} can"
        )
    listed = ", ".join(allowed) or "none at all"
    return Rejected("images.allowed_bases", f"image {image} is not allowed in a Dockerfile here; allowed: {listed}")


def _allowing(patterns: Iterable[str]) -> Iterator[Rule]:
    for pattern in dict.fromkeys(patterns):
        name, tag = references.split_pattern(pattern)
        if name != name.lower():
            continue  # covers nothing: full names have no capitals
        if tag is None:
            yield _rule("ALLOW", f"{_image(name)}{_ANY}$")
            continue
        tagged = f"{_image(name)}:{expression(tag, part='[^/:@]*', whole='[^/:@]*')}"
        yield _rule("ALLOW", f"{tagged}$")
        yield _rule("ALLOW", f"{tagged}{_DIGEST}$", _FETCHED)


def _frontends(patterns: Iterable[str]) -> Iterator[Rule]:
    """Once more for what is about to be run as a frontend, which was held against all other rules before."""
    # One identifier must not come with two constraints: BuildKit 0.13 keeps those that it saw first.
    yield _rule("DENY", f"^{_IMAGE}.", _FRONTEND)
    for pattern in patterns:
        yield _rule("ALLOW", f"{_image(references.split_pattern(pattern)[0])}{_ANY}$$", _FRONTEND)


def _image(name: str) -> str:
    """An expression of sources with full names only: it never goes on into a tag, though a colon can be a port's.

    Before the last slash every colon is a port's, and after it none is. BuildKit leaves the case of domains as it is.
    """
    folders, slash, last = name.rpartition("/")
    end = expression(last, part="[^/:@]*", whole="(?:[^@]*/)?[^/:@]*")
    return f"^{_IMAGE}(?i:{expression(folders, part='[^/@]*', whole='[^@]*')}{slash}{end})"


def _with_mirrored(patterns: Sequence[str], mirrors: Mapping[str, str]) -> list[str]:
    """The patterns, and those of what they cover by the names that it has on mirrors."""
    found = list(patterns)
    for pattern in patterns:
        name, tag = references.split_pattern(pattern)
        for host, mirror in mirrors.items():
            paths = below(name, f"{host}/")
            found += [f"{mirror}/{path}" if tag is None else f"{mirror}/{path}:{tag}" for path in paths]
    return found


def _alias(alias: str, reference: str) -> Rule:
    name, tag = references.split_pattern(alias)
    return _converting(f"{_image(name)}:{re.escape(tag or '')}$", reference)


def _mirror(host: str, mirror: str) -> Rule:
    return _converting(f"^{_IMAGE}(?i:{re.escape(host)})/(.*)$", f"{mirror}/${{1}}")


def _converting(identifier: str, reference: str) -> Rule:
    """Of the kind REGEX: with EXACT, BuildKit 0.13 would put the identifier in its own place."""
    return _rule("CONVERT", identifier) | {"updates": {"identifier": f"{_IMAGE}{reference}"}}


def _rule(action: str, identifier: str, constraint: Mapping[str, str] | None = None) -> Rule:
    selector: dict[str, Any] = {"identifier": identifier, "match_type": "REGEX"}
    return {"action": action, "selector": selector | ({"constraints": [dict(constraint)]} if constraint else {})}
