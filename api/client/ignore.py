"""`.siblingignore`: which files of a source folder are not uploaded. The patterns are gitignore's."""

from __future__ import annotations

import re
from pathlib import Path

from api.client.errors import ClientError

FILE = ".siblingignore"


class Ignore:
    """Patterns in order; the last that matches a path decides. `!` takes back, a last `/` means folders only."""

    file = FILE

    def __init__(self, text: str = "") -> None:
        self._rules = [_rule(line) for line in map(_stripped, text.splitlines()) if line and not line.startswith("#")]

    def __call__(self, path: str, *, folder: bool) -> bool:
        """Whether `path`, relative to the source and with `/`, stays behind; if a folder does, so does all below it."""
        for pattern, folders_only, ignored in reversed(self._rules):
            if (folder or not folders_only) and pattern.fullmatch(path):
                return ignored
        return False

    def opens(self, path: str) -> bool:  # noqa: ARG002 - other ignore files do take back what is below
        """Whether something below the folder may be sent although the folder itself stays behind."""
        return False


def read(root: str) -> Ignore:
    """The patterns of the source folder; none if it has no such file. Raises ClientError."""
    try:
        return Ignore(Path(root, FILE).read_text("utf-8", "surrogateescape"))
    except FileNotFoundError:
        return Ignore()
    except OSError as error:
        raise ClientError(f"{FILE} in {root} cannot be read: {error.strerror}.") from error


def _stripped(line: str) -> str:
    return re.sub(r"(?<!\\)\s+$", "", line)


def _rule(line: str) -> tuple[re.Pattern[str], bool, bool]:
    ignored = not line.startswith("!")
    glob = line if ignored else line[1:]
    folders_only = glob.endswith("/")
    glob = glob.rstrip("/")
    anywhere = "" if "/" in glob else "(?:.*/)?"
    try:
        return re.compile(anywhere + _expression(glob.lstrip("/")), re.DOTALL), folders_only, ignored
    except re.error as error:
        raise ClientError(f"{FILE}: {line!r} is not a pattern: {error}.") from error


_TOKENS = re.compile(
    r"(?P<folders>(?<![^/])\*\*/)|(?P<below>/\*\*$)|(?P<stars>\*+)|(?P<one>\?)"
    r"|\\(?P<escaped>.)|\[(?P<negated>[!^]?)(?P<set>\]?[^\]]*)\]|.",
    re.DOTALL,
)
_MEANING = {"folders": "(?:.*/)?", "below": "/.*", "stars": "[^/]*", "one": "[^/]"}


def _expression(glob: str) -> str:
    return "".join(map(_translated, _TOKENS.finditer(glob)))


def _translated(match: re.Match[str]) -> str:
    if match["set"]:
        inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", match["set"])
        return f"[^/{inner}]" if match["negated"] else f"(?!/)[{inner}]"
    return _MEANING.get(match.lastgroup or "") or re.escape(match["escaped"] or match[0])
