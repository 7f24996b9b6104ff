"""`sibling run`: submit a build, follow its log, bring back its artifacts, and exit as it did."""

from __future__ import annotations

import json

from api.client import terminal
from api.client.attended import attend
from api.client.command import NOT_RUN, Parser, perform
from api.client.request import add_options, request_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from typing import Any

    from api.client.attended import Attended
    from api.client.connection import Connection
    from api.client.log_stream import Log
    from api.client.terminal import Screen

_DESCRIPTION = """\
Run a build in a fresh container and show its log as it is written. Exits with
the build's exit code; 124 if it ran into its timeout, 125 if it could not be
run, 130 if it was cancelled. Ctrl-C cancels the build and waits for its end; a
second one leaves at once."""
_EXAMPLES = """\
  sibling run --image python:3.12 --source . -- pytest -q
  sibling run --image node:22 --source . -c 'npm ci' -c 'npm run build' --artifact 'dist/**' --output out
  sibling run --image alpine --git https://example.com/tool.git --ref v1 --secret TOKEN -c './publish "$TOKEN"'
  sibling run --image debian:12 --memory 2g --timeout 10m --timestamps -- make check
"""


def main(argv: Sequence[str]) -> int:
    """Run `sibling run`; the exit code."""
    cut = list(argv).index("--") if "--" in argv else len(argv)
    options = _parser().parse_args(argv[:cut])
    options.argv = argv[cut + 1 :]
    return perform(_run, options, failed=NOT_RUN)


def _parser() -> Parser:
    parser = Parser("run", _DESCRIPTION, _EXAMPLES, usage_error=NOT_RUN)
    parser.usage = "sibling run --image IMAGE [option ...] -- PROGRAM [ARGUMENT ...]"
    add_options(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--output", metavar="DIR", default="artifacts", help="where artifacts go (default: %(default)s)")
    group.add_argument("--timestamps", action="store_true", help="start every line of the log with its time")
    group.add_argument("--detach", action="store_true", help="only submit the build and print its id")
    group.add_argument("--json", action="store_true", help="print the build as JSON; its log goes to standard error")
    return parser


def _run(options: argparse.Namespace, connection: Connection, screen: Screen) -> int:
    request = request_of(options, options.argv)
    return attend(connection, screen, _Run(options, connection, screen, request))


class _Run:
    """One build from upload to exit code."""

    def __init__(
        self, options: argparse.Namespace, connection: Connection, screen: Screen, request: dict[str, Any]
    ) -> None:
        self._options = options
        self._connection = connection
        self._screen = screen
        self._request = request

    def __call__(self, attended: Attended) -> int:
        if self._options.source is not None:
            from api.client.upload import upload

            source = upload(self._connection, self._options.source, self._screen)
            self._request["source"] = {"type": "uploaded", "id": source}
        build = attended.submit("/v1/builds", self._request)
        if self._options.detach and not attended.interrupted:
            self._print(build, f"{build['id']}\n")
            return 0
        build = self._follow(attended, build["id"])
        return attended.finish(build, lambda: self._finish(build))

    def _follow(self, attended: Attended, build_id: str) -> dict[str, Any]:
        from api.client.logs import log_of

        descriptor = terminal.MESSAGES if self._options.json else terminal.OUTPUT

        def log(write: Callable[[bytes], None]) -> Log:
            timestamps = self._options.timestamps
            return log_of(self._connection, build_id, write, timestamps=timestamps, descriptor=descriptor)

        return attended.follow(log, lambda data: terminal.write(descriptor, data))

    def _finish(self, build: dict[str, Any]) -> int:
        from api.client.outcome import exit_code, summary

        try:
            if self._options.artifact:
                from api.client.artifacts import fetch

                fetch(self._connection, build, self._options.output, self._screen)
        finally:
            self._screen.say(summary(build))
        self._print(build, "")
        return exit_code(build)

    def _print(self, build: dict[str, Any], otherwise: str) -> None:
        terminal.output((json.dumps(build, indent=2) + "\n" if self._options.json else otherwise).encode())


COMMANDS = {"run": main}
