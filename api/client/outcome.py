"""How a finished build ended: in one line for people, and as the exit code for scripts."""

from __future__ import annotations

from api.client import times
from api.client.command import NOT_RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

TIMED_OUT = 124  # as timeout(1) has it
CANCELLED = 130


def exit_code(build: Mapping[str, Any]) -> int:
    """The build's own exit code, unless it was stopped or never ran; 0 if and only if it is a SUCCESS."""
    if build["result"] == "SUCCESS":
        return 0
    if build["reason"] == "timeout":
        return TIMED_OUT
    if build["result"] == "ABORTED":
        return CANCELLED
    return build["exit_code"] or NOT_RUN


def image_exit_code(build: Mapping[str, Any]) -> int:
    """As `exit_code`, but that a build that failed is 1: there is no program of the person's whose code it could be."""
    return 1 if build["result"] == "FAILURE" and build["reason"] != "timeout" else exit_code(build)


def summary(build: Mapping[str, Any]) -> str:
    """`SUCCESS in 3.2 s (queued 0.00, run 3.0), exit code 0, build 01m...`, and what went wrong if something did."""
    parts = [f"{build['result']} in {times.duration(times.between(build['created_at'], build['finished_at']))}"]
    if build["phases"]:
        parts[0] += f" ({phases(build)})"
    if build["exit_code"] is not None:
        parts.append(f"exit code {build['exit_code']}")
    parts.append(f"build {build['id']}")
    said_already = build["result"] == "SUCCESS" or build["reason"] == "exit-code"
    return ", ".join(parts) + ("" if said_already or not build["message"] else f": {build['message']}")


def phases(build: Mapping[str, Any]) -> str:
    """Seconds by phase, in the order they came."""
    return ", ".join(f"{name} {times.number(seconds)}" for name, seconds in build["phases"].items())
