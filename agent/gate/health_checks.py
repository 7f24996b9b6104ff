"""The health check of a container, of which the request has some and the image the rest. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.errors import InvalidRequest
from agent.gate.policy import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INTERVALS = ("Interval", "StartInterval")
_LEAST_INTERVAL = 10**8  # nanoseconds


def check(asked: Mapping[str, Any]) -> None:
    """Raise Refused, InvalidRequest for one that no request may have."""
    for name in _INTERVALS:
        if _is_short(asked[name]):
            raise Refused("field", f"Healthcheck.{name}: less than 0.1 s keeps the engine busy for everyone")
    if _is_hollow(asked["Test"]):
        raise InvalidRequest(f"Healthcheck.Test: {asked['Test'][0]} has no command after it")


def merged(asked: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    """What to ask for, in place of what the image has that no request may (moby/moby, runconfig: merged by field)."""
    short = [name for name in _INTERVALS if _is_short(image.get(name, 0))]
    found = {**dict.fromkeys(short, _LEAST_INTERVAL), **asked}
    if not found.get("Test") and _is_hollow(image.get("Test") or []):
        found["Test"] = ["NONE"]
    return {"Healthcheck": found} if found else {}


def _is_short(interval: int) -> bool:
    return interval != 0 and interval < _LEAST_INTERVAL


def _is_hollow(test: Sequence[str]) -> bool:
    """A check without a command: the engine's process dies of it (moby/moby 26.1, daemon/health.go, cmdProbe.run)."""
    return len(test) == 1 and test[0] in {"CMD", "CMD-SHELL"}
