"""Jenkins' label expressions: how they are read, what they match, and how `why` writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<operator><->|->|&&|\|\||!|\(|\))
      | "(?P<quoted>(?:[^"\\]|\\.)*)"
      | (?P<atom>(?:[^&|!<>()"'\s-]|-(?!>))+)
    )""",
    re.VERBOSE,
)
_UNSAFE = re.compile(r"[?*/\\%!@#$^&|<>\[\]:; ()\t\n]")  # atoms with these are written in quotes within an expression
_ATOM, _NOT, _AND, _OR, _IMPLIES, _IFF = range(6)


class Unreadable(Exception):
    """Not an expression; Jenkins then takes the whole text for the name of one label."""


@dataclass(frozen=True)
class Label:
    """`name` is how texts for people call it, `expression` how it is written as a part of a larger one."""

    name: str
    expression: str
    precedence: int
    matches: Callable[[frozenset[str]], bool]

    def within(self, precedence: int) -> str:
        return f"({self.expression})" if precedence < self.precedence else self.expression


def label_of(text: str) -> Label:
    """The label that a job's text means."""
    try:
        return parse(text)
    except Unreadable:
        return _atom(text.strip())


def words(text: str) -> tuple[str, ...]:
    """The labels that a node's configuration lists."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|([^\s"]+)', text)
    return tuple(bare or re.sub(r"\\([\\\"' ])", r"\1", quoted) for quoted, bare in found)


def parse(text: str) -> Label:
    tokens = _tokens(text)
    label = _iff(tokens)
    if tokens:
        raise Unreadable(text)
    return label


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    rest = text.rstrip()
    while at < len(rest):
        found = _TOKEN.match(rest, at)
        if not found:
            raise Unreadable(text)
        kind = found.lastgroup or ""
        tokens.append((kind, found[kind]))
        at = found.end()
    return tokens


def _taken(tokens: list[tuple[str, str]], operator: str) -> bool:
    if tokens and tokens[0] == ("operator", operator):
        tokens.pop(0)
        return True
    return False


def _iff(tokens: list[tuple[str, str]]) -> Label:
    left = _implies(tokens)
    while _taken(tokens, "<->"):
        left = _joined(left, _implies(tokens), _IFF, "<->", lambda a, b: a == b)
    return left


def _implies(tokens: list[tuple[str, str]]) -> Label:
    left = _or(tokens)
    if _taken(tokens, "->"):  # no more than one
        left = _joined(left, _or(tokens), _IMPLIES, "->", lambda a, b: not a or b)
    return left


def _or(tokens: list[tuple[str, str]]) -> Label:
    left = _and(tokens)
    while _taken(tokens, "||"):
        left = _joined(left, _and(tokens), _OR, "||", lambda a, b: a or b)
    return left


def _and(tokens: list[tuple[str, str]]) -> Label:
    left = _not(tokens)
    while _taken(tokens, "&&"):
        left = _joined(left, _not(tokens), _AND, "&&", lambda a, b: a and b)
    return left


def _not(tokens: list[tuple[str, str]]) -> Label:
    if not _taken(tokens, "!"):
        return _primary(tokens)
    base = _primary(tokens)
    text = f"!{base.within(_NOT)}"
    return Label(text, text, _NOT, lambda have: not base.matches(have))


def _primary(tokens: list[tuple[str, str]]) -> Label:
    if _taken(tokens, "("):
        base = _iff(tokens)
        if not _taken(tokens, ")"):
            raise Unreadable("a bracket is not closed")
        text = f"({base.expression})"
        return Label(text, text, _ATOM, base.matches)
    if not tokens or tokens[0][0] == "operator":
        raise Unreadable("a label is missing")
    kind, text = tokens.pop(0)
    return _atom(re.sub(r"\\(.)", r"\1", text) if kind == "quoted" else text)


def _joined(left: Label, right: Label, precedence: int, sign: str, test: Callable[[bool, bool], bool]) -> Label:
    text = left.within(precedence) + sign + right.within(precedence)
    return Label(text, text, precedence, lambda have: test(left.matches(have), right.matches(have)))


def _atom(name: str) -> Label:
    expression = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' if _UNSAFE.search(name) else name
    return Label(name, expression, _ATOM, lambda have: name in have)
