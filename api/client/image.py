"""`sibling image`: which of its commands is meant."""

from __future__ import annotations

import sys
from importlib import import_module

from api.client.command import USAGE_ERROR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_SUMMARIES = {
    "build": "build an image, and push it",
    "push": "push images that were built before",
    "ls": "list images that builds made",
}
_MODULES = {"build": "image_build", "push": "image_push", "ls": "image_list"}


def main(argv: Sequence[str]) -> int:
    """Run the command that `argv[0]` names; the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        (sys.stdout if argv else sys.stderr).write(_overview())
        return 0 if argv else USAGE_ERROR
    if argv[0] not in _MODULES:
        sys.stderr.write(f"[sibling] There is no command image {argv[0]!r}. Commands: {', '.join(_MODULES)}.\n")
        return USAGE_ERROR
    code: int = import_module(f"api.client.{_MODULES[argv[0]]}").main(argv[1:])
    return code


def _overview() -> str:
    commands = "".join(f"  sibling image {name:<6}  {summary}\n" for name, summary in _SUMMARIES.items())
    return f"usage: sibling image COMMAND ...\n\ncommands:\n{commands}\n`sibling image COMMAND --help` says more.\n"


COMMANDS = {"image": main}
