"""Changes that a commit or an import makes to an image's settings, and what they cost the engine. Pure.

It reads them as a Dockerfile and puts in variables, in time that grows with the square of what comes of it: a few
lines, each with several times what the line before set, keep it busy for hours, and nobody can stop that
(moby/buildkit, frontend/dockerfile/shell/lex.go). So variables are taken in plain forms, whose length can be told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.gate import ports
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_MOST = 64 * 1024  # characters of all of them, with variables put in
_MOST_SEARCHES = 10**6  # words in which variables are put in, by variables: it goes through all of these for each
_CONTINUED = re.compile(r"[\\`][ \t\r]*\n")
_COMMENT = re.compile(r"[\s\ufeff]*#")  # one may say what `\` means
_UNREAD = re.compile(r"\s*(?:CMD|ENTRYPOINT|ONBUILD|HEALTHCHECK)\s", re.IGNORECASE)  # in which nothing is put in
_PORTS = re.compile(r"[\s\ufeff]*EXPOSE\s(.*)", re.IGNORECASE | re.DOTALL)
_PORT = re.compile(r"[0-9]{1,5}(?:-[0-9]{1,5})?(?:/[a-z]+)?", re.IGNORECASE)
_PLAIN = re.compile(r"(?:[^$\\]|\\.|\\$|\$[A-Za-z_]\w*|\$\{[A-Za-z_]\w*(?::[-+][^${}\\]*)?\})*", re.ASCII | re.DOTALL)


def see_cheap(changes: Sequence[str], environment: Collection[str]) -> None:
    """Raise Refused if they could cost much; `environment` is what is set before, as `NAME=value`.

    A name may itself be made of variables. So any may stand for the longest value that there is by then.
    """
    whole = "\n".join(changes)
    if _CONTINUED.search(whole):
        raise _refusal("an instruction over several lines is not for builds; write it in one")
    lines = whole.split("\n")
    _see_few_ports(lines)
    longest, total, words, known = max(map(len, environment), default=0), 0, 0, len(environment)
    for line in lines:
        if _COMMENT.match(line):
            raise _refusal("a comment is not for builds")
        length = len(line)
        if not _UNREAD.match(line):
            if not _PLAIN.fullmatch(line):
                raise _refusal(f"{line[:100]!r}: variables are taken as $NAME and ${{NAME}}, with :- or :+ and a word")
            length += line.count("$") * longest
            longest = max(longest, length)
            words += len(line.split())
            known += line.count("=") + 1
        total += length
        if total > _MOST:
            raise _refusal(f"{line[:100]!r} could be over {_MOST} characters with its variables, as all may be")
    if words * known > _MOST_SEARCHES:
        raise _refusal(f"{words} words and {known} variables are too many at once")


def _see_few_ports(lines: Sequence[str]) -> None:
    exposed = [port for line in lines if (told := _PORTS.match(line)) for port in told[1].split()]
    if not all(map(_PORT.fullmatch, exposed)):
        raise _refusal("EXPOSE: ports are taken as 80, 8000-8009 and 53/udp, without variables")
    if sum(map(ports.count, exposed)) > ports.MOST_EXPOSED:
        raise _refusal(f"EXPOSE: more than {ports.MOST_EXPOSED} ports are not for builds")


def _refusal(text: str) -> Refused:
    return Refused("field", f"changes: {text}")
