"""Patterns of names with parts between slashes: of images, of jobs, of tokens. Pure.

`*` stands for any characters but `/`, `**` for any at all, also none. So `team-a/**` covers all that is below `team-a`,
however deep, but neither `team-a` itself nor `team-ab/x`.
"""

from __future__ import annotations

import re


def glob(pattern: str) -> re.Pattern[str]:
    """What matches in full just the names that the pattern covers."""
    return re.compile(expression(pattern, part="[^/]*", whole=".*"))


def expression(pattern: str, *, part: str, whole: str) -> str:
    """The regular expression that the pattern means, where `*` means `part` and `**` means `whole`."""
    pieces = re.split(r"(\*\*|\*)", pattern)
    return "".join({"*": part, "**": whole}.get(piece, re.escape(piece)) for piece in pieces)


def below(pattern: str, prefix: str) -> list[str]:
    """The patterns that together cover just those names that the pattern covers with the prefix before them."""
    left = _skipped({pattern})
    for character in prefix:
        left = _skipped({after for each in left for after in _after(each, character)})
    return sorted(left)


def _after(pattern: str, character: str) -> set[str]:
    """What is left to be covered after that character."""
    if pattern.startswith("**"):
        return {pattern}
    if pattern.startswith("*"):
        return {pattern} if character != "/" else set()
    return {pattern[1:]} if pattern.startswith(character) else set()


def _skipped(patterns: set[str]) -> set[str]:
    """They themselves, and what they are without the stars at their beginning, which may stand for nothing."""
    found = set(patterns)
    for pattern in patterns:
        rest = pattern
        while rest.startswith("*"):
            rest = rest.removeprefix("**") if rest.startswith("**") else rest.removeprefix("*")
            found.add(rest)
    return found
