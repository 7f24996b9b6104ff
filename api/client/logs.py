"""`sibling logs`: a build's log on standard output."""

from __future__ import annotations

from api.client import terminal
from api.client.command import Parser, perform
from api.client.log_stream import Log, RawLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from api.client.connection import Connection
    from api.client.terminal import Screen

_EXAMPLES = """\
  sibling logs 01m2x7k3q8v5w9y1z4a6b8c0de
  sibling logs -f --timestamps 01m2x7k3q8v5w9y1z4a6b8c0de
  sibling logs 01m2x7k3q8v5w9y1z4a6b8c0de | less -R
"""


def main(argv: Sequence[str]) -> int:
    """Run `sibling logs`; the exit code."""
    parser = Parser("logs", "Show a build's log as it is now, or follow it to the build's end.", _EXAMPLES)
    parser.add_argument("build", metavar="BUILD", help="the build's id")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on to the build's end; Ctrl-C leaves it running"
    )
    parser.add_argument("--timestamps", action="store_true", help="start every line with its time")
    return perform(_logs, parser.parse_args(argv))


def log_of(
    connection: Connection, build_id: str, write: Callable[[bytes], None], *, timestamps: bool, descriptor: int
) -> Log:
    """The log as asked for. Colours go with times, and only if `descriptor`, which `write` fills, is a terminal."""
    if timestamps:
        from api.client.timed_log import TimedLog

        return TimedLog(connection, build_id, write, colours=terminal.coloured(descriptor))
    return RawLog(connection, build_id, write)


def _logs(options: argparse.Namespace, connection: Connection, _: Screen) -> int:
    log = log_of(connection, options.build, terminal.output, timestamps=options.timestamps, descriptor=terminal.OUTPUT)
    if options.follow:
        log.follow()
    else:
        log.catch_up()
    return 0


COMMANDS = {"logs": main}
