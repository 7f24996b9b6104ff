"""Changes that a commit or an import makes to an image's settings, and how long they are when expanded. Pure.

The engine reads them as a Dockerfile and puts in variables, in time that grows with the square of what comes of it:
a few lines, each with several times what the line before set, keep it busy for hours, and nobody can stop that
(moby/buildkit, frontend/dockerfile/shell/lex.go).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST = 64 * 1024  # characters, of a line and of all of them
_CONTINUED = re.compile(r"[\\`][ \t\r]*\n")
_REPLACING = re.compile(r"\$\{\w*/")  # `${name/what/by}`


def see_short(changes: Sequence[str], environment: Iterable[str]) -> None:
    """Raise Refused if they could be too long; `environment` is what is set before, as `NAME=value`.

    A name may itself be made of variables. So any may stand for the longest value that there is by then.
    """
    whole = "\n".join(changes)
    if _CONTINUED.search(whole):
        raise Refused("field", "changes: an instruction over several lines is not for builds; write it in one")
    longest, total = max(map(len, environment), default=0), 0
    for line in whole.split("\n"):
        used = line.count("$")
        length = len(line) + used * longest
        length += len(_REPLACING.findall(line)) * longest * length
        total += length
        if total > _MOST:
            raise Refused(
                "field", f"changes: {line[:100]!r} could be over {_MOST} characters with its variables, as all may be"
            )
        longest = max(longest, length)
