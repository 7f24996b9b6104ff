"""Which of the build's things a prune call means (docs.docker.com, "Prune unused Docker objects"). Pure."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from agent.errors import InvalidRequest
from agent.fields import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KNOWN = {"label", "label!", "until"}


def meant(asked: Mapping[str, Sequence[str]], labels: Mapping[str, str] | None, created: str | float) -> bool:
    """Whether a thing with these labels, made at that time, is meant. Raises InvalidRequest."""
    own = {*(labels or {}), *(f"{name}={value}" for name, value in (labels or {}).items())}
    if not own.issuperset(asked.get("label", ())) or own & {*asked.get("label!", ())}:
        return False
    return all(_time(created) < _until(each) for each in asked.get("until", ()))


def _until(text: str) -> float:
    """A time as people give it: one, or how long ago it was."""
    try:
        return time.time() - parse_duration(text) if text[-1:] in {"h", "m", "s"} else _time(text)
    except ValueError as error:
        raise InvalidRequest(
            f"the filter until: {text!r} is no time; write it as 24h or 2026-01-31T00:00:00Z"
        ) from error


def _time(value: str | float) -> float:
    """Seconds since the epoch."""
    if isinstance(value, str) and "-" in value:
        return datetime.fromisoformat(value).timestamp()
    return float(value)
