"""`.dockerignore`: which files of a context are not uploaded, as Docker reads it (github.com/moby/patternmatcher).

Other than gitignore's, every pattern is of a whole path from the context's top, and a file below an ignored folder may
be taken back by a later `!`.
"""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache

from api.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

FILE = ".dockerignore"
_WILD = re.compile(r"[*?\[\\]")
_PARENTS = 1024  # a walk goes deep first, so that the folders above are always among the last ones


class Dockerignore:
    """Patterns in order; the last that matches a path decides. The paths in `kept` are sent whatever they say.

    `file` is where the patterns stand, for messages. Raises ClientError for a text that holds no patterns.
    """

    def __init__(self, text: str, kept: Collection[str] = (), file: str = FILE) -> None:
        self.file = file
        self._kept = frozenset(kept)
        self._rules = [_Rule(line, file) for line in _patterns(text)]
        self._matches = lru_cache(_PARENTS)(self._matched)

    def __call__(self, path: str, *, folder: bool) -> bool:  # noqa: ARG002 - a pattern cannot ask for folders only
        """Whether `path`, relative to the context and with `/`, stays behind."""
        if path in self._kept:
            return False
        ignored = False
        for rule, match in zip(self._rules, self._matches(path)):
            if match:
                ignored = not rule.exception
        return ignored

    def opens(self, path: str) -> bool:
        """Whether something below the folder may be sent although the folder itself stays behind."""
        below = f"{path}/"
        return any(name.startswith(below) for name in self._kept) or any(rule.reaches(below) for rule in self._rules)

    def _matched(self, path: str) -> tuple[bool, ...]:
        """Which rules match the path or a folder above it. One that could change nothing then and there does not."""
        parent = posixpath.dirname(path)
        inherited = self._matches(parent) if parent else (False,) * len(self._rules)
        ignored = False
        matches = []
        for rule, above in zip(self._rules, inherited):
            match = above or (rule.exception == ignored and rule.matches(path) is not None)
            matches.append(match)
            if match:
                ignored = not rule.exception
        return tuple(matches)


def read(file: Path, kept: Collection[str]) -> Dockerignore:
    """The patterns of the file; none if there is no such file. Raises ClientError."""
    try:
        return Dockerignore(file.read_bytes().decode("utf-8", "surrogateescape"), kept, str(file))
    except FileNotFoundError:
        return Dockerignore("", kept, str(file))
    except OSError as error:
        raise ClientError(f"{file} cannot be read: {error.strerror}.") from error


class _Rule:
    def __init__(self, pattern: str, file: str) -> None:
        self.exception = pattern.startswith("!")
        glob = pattern[1:] if self.exception else pattern
        try:
            if not glob:
                raise ValueError("nothing follows the exclamation mark")
            self.matches = re.compile(_expression(glob), re.DOTALL).fullmatch
        except (re.error, ValueError) as error:
            raise ClientError(f"{file}: {pattern!r} is not a pattern: {error}.") from error
        wild = _WILD.search(glob)
        self._begins = glob[: wild.start()] if wild else glob
        self._literal = wild is None

    def reaches(self, below: str) -> bool:
        """Whether it may take back something whose path begins with `below`."""
        return self.exception and (
            self._begins.startswith(below) or (not self._literal and below.startswith(self._begins))
        )


def _patterns(text: str) -> list[str]:
    lines = (line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n"))
    return [_cleaned(line.strip()) for line in lines if line.strip() and not line.startswith("#")]


def _cleaned(line: str) -> str:
    exception = line.startswith("!")
    glob = line[1:].strip() if exception else line
    if glob:
        glob = posixpath.normpath(glob)
        glob = "/" if glob == "//" else glob  # POSIX lets two slashes mean something, and Docker does not
        glob = glob if glob == "/" else glob.lstrip("/")
    return f"!{glob}" if exception else glob


_ONE = r"(?:\\.|[^-\]\\])"
_ITEM = re.compile(rf"({_ONE})(?:-({_ONE}))?", re.DOTALL)
_TOKENS = re.compile(
    r"(?P<rest>\*\*/?$)|(?P<folders>\*\*/?)|(?P<stars>\*)|(?P<one>\?)|\\(?P<escaped>.)"
    rf"|\[(?P<negated>\^?)(?P<items>(?:{_ITEM.pattern})+)\]|(?P<broken>[\[\\])|.",
    re.DOTALL,
)
_MEANING = {"rest": ".*", "folders": "(?:.*/)?", "stars": "[^/]*", "one": "[^/]"}


def _expression(glob: str) -> str:
    if glob.startswith("**") and not glob.startswith("**/") and not _WILD.search(glob, 2):
        return f".*{re.escape(glob[2:])}"  # `**.log` is of every file with that ending, but `**.lo*` of none such
    return "".join(map(_translated, _TOKENS.finditer(glob)))


def _translated(match: re.Match[str]) -> str:
    if match["broken"]:
        raise ValueError(f"{match['broken']} is not closed" if match["broken"] == "[" else "a backslash ends it")
    if match["items"]:
        items = (tuple(filter(None, item.groups())) for item in _ITEM.finditer(match["items"]))
        return f"[{match['negated']}{''.join('-'.join(re.escape(end[-1]) for end in item) for item in items)}]"
    return _MEANING.get(match.lastgroup or "") or re.escape(match["escaped"] or match[0])
