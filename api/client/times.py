"""The service's RFC 3339 times as local clock times, ages and durations that people read."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

# datetime.fromisoformat takes neither Z nor every number of decimals before Python 3.11.
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?(?:[Zz]|([+-]\d\d:\d\d))")


def parse(text: str) -> datetime:
    """The moment that an RFC 3339 text names; raises ValueError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    moment = datetime.fromisoformat(f"{match[1]}T{match[2]}{match[4] or '+00:00'}")
    return moment + timedelta(seconds=float(match[3] or 0))


def clock(text: str) -> str:
    """`HH:MM:SS.mmm` on this machine's clock."""
    return parse(text).astimezone().strftime("%H:%M:%S.%f")[:-3]


def between(start: str, end: str) -> float:
    """Seconds from one time to another, never negative."""
    return max(0.0, (parse(end) - parse(start)).total_seconds())


def since(start: str) -> float:
    """Seconds from a time until now, never negative (two machines' clocks differ)."""
    moment = parse(start)
    return max(0.0, (datetime.now(moment.tzinfo) - moment).total_seconds())


def number(seconds: float) -> str:
    """Seconds with as many decimals as matter: `0.02`, `3.2`, `75`."""
    if seconds < 0.1:
        return f"{seconds:.2f}"
    return f"{seconds:.1f}" if seconds < 60 else f"{seconds:.0f}"


def duration(seconds: float) -> str:
    """`3.2 s`, `4 m 05 s`, `2 h 03 m`, `5 d`."""
    if seconds < 59.95:  # one decimal would make it 60.0
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d"
    return f"{hours} h {minutes:02} m" if hours else f"{minutes} m {rest:02} s"
