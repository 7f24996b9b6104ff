"""`sibling ps`, `sibling show` and `sibling cancel`: builds as lists and pages for people, or as JSON for programs."""

from __future__ import annotations

import shlex

from api.client import terminal, times
from api.client.command import FAILED, Parser, perform
from api.client.connection import build_path
from api.client.errors import Refused
from api.client.listing import json_of, listed
from api.client.outcome import phases

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from api.client.connection import Connection
    from api.client.terminal import Screen

_STATES = ("queued", "preparing", "connected", "running", "finished")
_HEAD = ("ID", "STATE", "IMAGE", "AGE", "DURATION", "BY")


def ps(argv: Sequence[str]) -> int:
    """Run `sibling ps`; the exit code."""
    examples = "  sibling ps\n  sibling ps --all --limit 20\n  sibling ps --state queued --json\n"
    parser = Parser("ps", "List builds, the newest first: those that have not ended, unless told otherwise.", examples)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="finished builds too")
    which.add_argument("--state", action="append", choices=_STATES, help="only builds in this state; may be repeated")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="as a JSON list")
    return perform(_ps, parser.parse_args(argv))


def show(argv: Sequence[str]) -> int:
    """Run `sibling show`; the exit code."""
    parser = Parser("show", "Show one build.", "  sibling show 01m2x7k3q8v5w9y1z4a6b8c0de\n")
    parser.add_argument("build", metavar="BUILD", help="the build's id")
    parser.add_argument("--json", action="store_true", help="as JSON")
    return perform(_show, parser.parse_args(argv))


def cancel(argv: Sequence[str]) -> int:
    """Run `sibling cancel`; the exit code: 1 if any of the builds could not be cancelled."""
    examples = "  sibling cancel 01m2x7k3q8v5w9y1z4a6b8c0de\n"
    parser = Parser("cancel", "Cancel builds. A build that has ended already stays as it is.", examples)
    parser.add_argument("builds", metavar="BUILD", nargs="+", help="a build's id")
    return perform(_cancel, parser.parse_args(argv))


def _ps(options: argparse.Namespace, connection: Connection, _: Screen) -> int:
    states = options.state or (_STATES if options.all else _STATES[:-1])
    builds = list(listed(connection, "builds", [("state", state) for state in states], options.limit))
    if options.json:
        terminal.output(json_of(builds))
    else:
        terminal.output(terminal.table(_HEAD, [_row(build) for build in builds]).encode())
    return 0


def _row(build: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        build["id"],
        build["result"] or build["state"],
        _image(build),
        times.duration(times.since(build["created_at"])),
        _ran(build),
        build["created_by"],
    )


def _ran(build: Mapping[str, Any]) -> str:
    if build["started_at"] is None:
        return "-"
    end = build["finished_at"]
    return times.duration(times.between(build["started_at"], end) if end else times.since(build["started_at"]))


def _show(options: argparse.Namespace, connection: Connection, _: Screen) -> int:
    build = connection.json("GET", build_path(options.build))
    if options.json:
        terminal.output(json_of(build))
        return 0
    lines = [(name, value) for name, value in _facts(build, connection.address.url) if value]
    width = max(len(name) for name, _ in lines)
    terminal.output("".join(f"{name:<{width}}  {value}\n" for name, value in lines).encode())
    return 0


def _facts(build: Mapping[str, Any], url: str) -> Iterator[tuple[str, str]]:
    yield "build", build["id"]
    yield "state", _standing(build)
    yield "message", build["message"] or ""
    yield "image", _image(build) + (f" ({build['image_id']})" if build["image_id"] else "")
    yield "command", _command(build["request"])
    yield "by", build["created_by"]
    for moment in ("created", "started", "finished"):
        if text := build[f"{moment}_at"]:
            yield moment, f"{times.parse(text).astimezone():%Y-%m-%d %H:%M:%S}, {times.duration(times.since(text))} ago"
    yield "duration", _ran(build)
    yield "phases", phases(build)
    yield "labels", ", ".join(f"{name}={value}" for name, value in build["labels"].items())
    yield "log", f"{terminal.size(build['log_size'])}, `sibling logs {build['id']}`, {url}{build['links']['log']}"
    for artifact in build["artifacts"]:
        yield "artifact", f"{artifact['path']} ({terminal.size(artifact['size'])})"


def _image(build: Mapping[str, Any]) -> str:
    """What it runs in; of builds and pushes of images the names that it gives, or sends."""
    request = build["request"]
    return build["image"] or ", ".join(request.get("tags") or request.get("images") or ()) or "-"


def _standing(build: Mapping[str, Any]) -> str:
    if build["result"] is None:
        return f"{build['state']}{', to be cancelled' if build['cancel_requested'] else ''}"
    code = "" if build["exit_code"] is None else f", exit code {build['exit_code']}"
    reason = f" ({build['reason']})" if build["reason"] else ""
    return f"{build['result']}{reason}{code}"


def _command(request: Mapping[str, Any]) -> str:
    if request.get("argv"):
        return shlex.join(request["argv"])
    return "; ".join(request.get("commands") or ())


def _cancel(options: argparse.Namespace, connection: Connection, screen: Screen) -> int:
    code = 0
    for build_id in options.builds:
        try:
            build = connection.json("POST", build_path(build_id, "cancel"))
        except Refused as error:
            screen.say(str(error))
            code = FAILED
            continue
        ended = build["state"] == "finished"
        terminal.output(f"{build_id}: {f'ended, {_standing(build)}' if ended else 'cancel requested'}\n".encode())
    return code


COMMANDS = {"ps": ps, "show": show, "cancel": cancel}
