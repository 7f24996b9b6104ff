"""Jenkins' label expressions, as its own grammar has them, and the label that names an image. Pure.

The grammar is that of Jenkins' `LabelExpressionLexer.g4` and `LabelExpressionParser.g4`: `!` before `&&` before `||`
before `->` before `<->`. An atom holds any characters but `& | ! < > ( )`, quotes, space and tab, and no `-` before a
`>`; one in double quotes holds any at all. `!!a` and `a->b->c` are no expressions.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import reduce
from operator import eq
from typing import TYPE_CHECKING, Final

from agent.errors import InvalidRequest
from agent.fields import DOCKER_LEVELS, DockerLevel, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

IMAGE: Final = "image="
MAX_DEPTH: Final = 50  # parentheses within parentheses; a text of nothing else must not exhaust the stack

_TOKEN = re.compile(
    r"[ \t]*(?:"
    r"(?P<atom>(?:-(?!>)|[^-&|!<>() \t\"'])+)|"
    r'(?P<quoted>"(?:\\[btnfr"\'\\]|[^\\"\r\n])*")|'
    r"(?P<operator>&&|\|\||<->|->|[!()]|\Z))"
)
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_MEANT = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}
_WRITTEN = str.maketrans({"\\": r"\\", '"': r"\""} | {meant: f"\\{letter}" for letter, meant in _MEANT.items()})
# LabelAtom.needsEscape, and both quotes, which Jenkins forgets and then cannot read itself.
_PLAIN = re.compile(r"(?!\.{1,2}\Z)[^\x00-\x20\x7f-\x9f()?*/\\%!@#$^&|<>\[\]:;\"']+")
_NUMBER = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,3})?")
_KEYS = ("cpus", "memory", "docker", "run")
_EXAMPLE = "image=maven:3,cpus=2,memory=4g"
_END = ""
_OPERATORS: dict[str, Callable[[bool, bool], bool]] = {  # from the loosest on
    "<->": eq,
    "->": lambda a, b: not a or b,
    "||": lambda a, b: a or b,
    "&&": lambda a, b: a and b,
}
_LEVELS = tuple(_OPERATORS)


class Expression(ABC):
    """What a node's labels must be like. `str()` is a text that `parse` reads as the same."""

    @abstractmethod
    def matches(self, labels: Collection[str]) -> bool:
        """Whether a node with these labels will do; its own name is one of them."""

    @property
    @abstractmethod
    def atoms(self) -> tuple[str, ...]:
        """The labels it speaks of, in order of appearance, and as often."""


@dataclass(frozen=True, slots=True)
class Atom(Expression):
    """One label."""

    name: str

    def matches(self, labels: Collection[str]) -> bool:
        """Whether it is among them."""
        return self.name in labels

    @property
    def atoms(self) -> tuple[str, ...]:
        """Itself."""
        return (self.name,)

    def __str__(self) -> str:
        return self.name if _PLAIN.fullmatch(self.name) else f'"{self.name.translate(_WRITTEN)}"'


@dataclass(frozen=True, slots=True)
class Not(Expression):
    """What its operand does not match."""

    operand: Expression

    def matches(self, labels: Collection[str]) -> bool:
        """Whether the operand does not match."""
        return not self.operand.matches(labels)

    @property
    def atoms(self) -> tuple[str, ...]:
        """Those of the operand."""
        return self.operand.atoms

    def __str__(self) -> str:
        return f"!{_within(self.operand, len(_LEVELS))}"


@dataclass(frozen=True, slots=True)
class Chain(Expression):
    """Two or more operands with one operator between them, which binds from the left."""

    operator: str
    operands: tuple[Expression, ...]

    def matches(self, labels: Collection[str]) -> bool:
        """Whether the operator says so of what the operands say."""
        return reduce(_OPERATORS[self.operator], (operand.matches(labels) for operand in self.operands))

    @property
    def atoms(self) -> tuple[str, ...]:
        """Those of all operands."""
        return tuple(atom for operand in self.operands for atom in operand.atoms)

    def __str__(self) -> str:
        level = _LEVELS.index(self.operator)
        return self.operator.join(_within(operand, level) for operand in self.operands)


@dataclass(frozen=True, slots=True)
class ImageLabel:
    """A label that asks for a container of an image. `memory` is in bytes; `run` makes the label one build's own."""

    atom: str
    image: str
    cpus: float | None = None
    memory: int | None = None
    docker: DockerLevel = "none"
    run: str | None = None


def parse(text: str) -> Expression:
    """The expression that a text is. Raises InvalidRequest if it is none."""
    return _Parser(text).whole()


def parse_name(text: str) -> Expression:
    """The label of that name: where Jenkins shows a label, it is an expression, or else one atom without its quotes."""
    try:
        return parse(text)
    except InvalidRequest:
        return Atom(text)


def parse_assigned(text: str) -> Expression:
    """What a job's label means: `Jenkins.getLabel` first takes away quotes around the whole, even of an expression."""
    return parse_name(_unquoted(text))


def parse_image(atom: str) -> ImageLabel | None:
    """What an `image=` label asks for, or None for any other label. Raises InvalidRequest.

    Whether the image is a reference at all, and allowed, is the policy's business.
    """
    if not atom.startswith(IMAGE):
        return None
    image, *rest = atom.removeprefix(IMAGE).split(",")
    if not image:
        raise InvalidRequest(f"label {atom!r} names no image; write it as {_EXAMPLE}")
    options = _options(atom, rest)
    return ImageLabel(
        atom=atom,
        image=image,
        cpus=_cpus(atom, options["cpus"]) if "cpus" in options else None,
        memory=_memory(atom, options["memory"]) if "memory" in options else None,
        docker=_docker(atom, options["docker"]) if "docker" in options else "none",
        run=options.get("run"),
    )


class _Parser:
    """Reads one text. Each token is an atom or an operator's text, and the last one is the end's."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._read()
        self._next = next(self._tokens)

    def whole(self) -> Expression:
        expression = self._chain(0, 0)
        if self._next != _END:
            raise self._wrong()
        return expression

    def _chain(self, level: int, depth: int) -> Expression:
        if level == len(_LEVELS):
            return self._operand(depth)
        operands = [self._chain(level + 1, depth)]
        while (_LEVELS[level] != "->" or len(operands) == 1) and self._skip(_LEVELS[level]):
            operands.append(self._chain(level + 1, depth))
        return Chain(_LEVELS[level], tuple(operands)) if len(operands) > 1 else operands[0]

    def _operand(self, depth: int) -> Expression:
        return Not(self._primary(depth)) if self._skip("!") else self._primary(depth)

    def _primary(self, depth: int) -> Expression:
        if self._skip("("):
            if depth == MAX_DEPTH:
                raise InvalidRequest(f"a label expression has more than {MAX_DEPTH} parentheses within each other")
            inner = self._chain(0, depth + 1)
            if not self._skip(")"):
                raise self._wrong()
            return inner
        atom = self._next
        if isinstance(atom, str):
            raise self._wrong()
        self._next = next(self._tokens)
        return atom

    def _skip(self, operator: str) -> bool:
        if self._next != operator:
            return False
        self._next = next(self._tokens)
        return True

    def _read(self) -> Iterator[Atom | str]:
        at = 0
        while True:
            match = _TOKEN.match(self._text, at)
            if match is None:
                raise self._wrong()
            at = match.end()
            yield _token(match)

    def _wrong(self) -> InvalidRequest:
        return InvalidRequest(
            f"{self._text!r} is no label expression; write one as docker && !windows, "
            'and put quotes (") around a label with other than plain characters'
        )


def _token(match: re.Match[str]) -> Atom | str:
    if match["atom"]:
        return Atom(match["atom"])
    return Atom(_unquoted(match["quoted"])) if match["quoted"] else match["operator"]


def _unquoted(text: str) -> str:
    """As QuotedStringTokenizer.unquote does it, but for its broken reading of Unicode escapes."""
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "\"'":
        return text
    return _ESCAPE.sub(lambda match: _MEANT.get(match[1], match[1]), text[1:-1])


def _within(operand: Expression, level: int) -> str:
    loose = isinstance(operand, Chain) and _LEVELS.index(operand.operator) <= level
    return f"({operand})" if loose or (isinstance(operand, Not) and level == len(_LEVELS)) else str(operand)


def _options(atom: str, rest: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in rest:
        key, _, value = part.partition("=")
        if key not in _KEYS or not value:
            raise InvalidRequest(
                f"label {atom!r}: {part!r} is none of cpus=, memory=, docker= and run=, as in {_EXAMPLE}"
            )
        if key in options:
            raise InvalidRequest(f"label {atom!r} gives {key}= twice")
        options[key] = value
    return options


def _cpus(atom: str, text: str) -> float:
    if not _NUMBER.fullmatch(text) or float(text) == 0:
        raise InvalidRequest(f"label {atom!r}: cpus={text} is no number of CPUs; write it as cpus=2 or cpus=0.5")
    return float(text)


def _docker(atom: str, text: str) -> DockerLevel:
    level = next((level for level in DOCKER_LEVELS if level == text), None)
    if level is None:
        raise InvalidRequest(f"label {atom!r}: docker={text} is none of {', '.join(DOCKER_LEVELS)}")
    return level


def _memory(atom: str, text: str) -> int:
    try:
        size = int(parse_size(text))
    except ValueError as error:
        raise InvalidRequest(f"label {atom!r}: memory={text}: {error}") from error
    if size == 0:
        raise InvalidRequest(f"label {atom!r}: memory={text} is nothing to build with; write it as memory=4g")
    return size
