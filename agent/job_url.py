"""What a Jenkins job's URL says of its full name. Pure.

`https://jenkins/job/team/job/app/` is the job `team/app`; Jenkins itself may be below a path. In a URL each name is
percent-encoded once (hudson.Util.rawEncode). A name may hold `%2F`, as the branches of a multibranch project do, but
never a slash.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

MAX_NAME = 250  # characters; `job:` and the name must fit where names of callers are kept

_URL = re.compile(r"https?://[^/@]+(?:/(?!job/)[^/]+)*((?:/job/[^/]+)+)/?")
_RUN = re.compile(r"/[0-9]+/?\Z")
# ASCII without space, `#`, `?`, `\`, and `%` but for what it encodes
_PLAIN = re.compile(r"(?:[!-\"$&->@-\[\]-~]|%[0-9A-Fa-f]{2})*")


def full_name(url: str) -> str | None:
    """The full name of the job at that URL; None if it is no job's, or would mean another one when read again."""
    match = _URL.fullmatch(url) if _PLAIN.fullmatch(url) else None
    if match is None:
        return None
    try:
        names = [unquote(part, errors="strict") for part in match[1].removeprefix("/job/").split("/job/")]
    except UnicodeDecodeError:
        return None
    full = "/".join(names)
    return full if len(full) <= MAX_NAME and all(map(_is_name, names)) else None


def of_task(url: str) -> str | None:
    """The same of a queue item's task: a job, or the run of a pipeline that wants a node."""
    return full_name(url) or full_name(_RUN.sub("/", url))


def _is_name(name: str) -> bool:
    return name not in {"", ".", ".."} and name.isprintable() and not {"/", "\\"} & set(name)
