"""`sibling image ls`: images that builds of this service made."""

from __future__ import annotations

from api.client import terminal, times
from api.client.command import Parser, perform
from api.client.listing import json_of, listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from typing import Any

    from api.client.connection import Connection
    from api.client.terminal import Screen

_EXAMPLES = """\
  sibling image ls
  sibling image ls --tag registry.example/team/app:latest --json
"""
_HEAD = ("IMAGE", "SIZE", "AGE", "BUILD", "BY", "NAMES")
_SHORT = 12  # hexadecimal digits, as Docker shows them


def main(argv: Sequence[str]) -> int:
    """Run `sibling image ls`; the exit code."""
    parser = Parser("image ls", "List images that builds of this service made, the newest first.", _EXAMPLES)
    parser.add_argument("--tag", metavar="NAME", help="only images with this name")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="as a JSON list")
    return perform(_list, parser.parse_args(argv))


def _list(options: argparse.Namespace, connection: Connection, _: Screen) -> int:
    images = list(listed(connection, "images", [("tag", options.tag)] if options.tag else [], options.limit))
    if options.json:
        terminal.output(json_of(images))
    else:
        terminal.output(terminal.table(_HEAD, [_row(image) for image in images]).encode())
    return 0


def _row(image: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        (image["id"] or "-").rpartition(":")[2][:_SHORT],
        "-" if image["size"] is None else terminal.size(image["size"]),
        times.duration(times.since(image["created_at"])),
        image["build"],
        image["created_by"],
        ", ".join(image["tags"]) or "-",
    )
