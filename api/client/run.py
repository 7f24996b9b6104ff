"""`sibling run`: submit a build, follow its log, bring back its artifacts, and exit as it did."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any

from api.client import terminal
from api.client.command import Parser, perform
from api.client.connection import build_path
from api.client.errors import ClientError, Interrupted, OutputClosed
from api.client.log_stream import wait
from api.client.logs import log_of
from api.client.outcome import NOT_RUN, exit_code, summary
from api.client.request import add_options, request_of
from api.client.signals import Signals
from api.client.waiting import Waiting

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from api.client.connection import Connection
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
# How long a second Ctrl-C lets the request to cancel, already on its way, reach the service; in seconds.
_LAST_CHANCE = 1.0
_ASK_EVERY = 30


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
    signals = Signals()
    run = _Run(options, connection, screen, signals)
    try:
        with signals:
            return run(request)
    except Interrupted as interruption:
        run.leave()
        return interruption.exit_code


class _Run:
    """One build from upload to exit code. `_farewell` is what to say if the present step is left by a signal."""

    def __init__(self, options: argparse.Namespace, connection: Connection, screen: Screen, signals: Signals) -> None:
        self._options = options
        self._connection = connection
        self._screen = screen
        self._signals = signals
        self._farewell = "Interrupted; nothing was submitted."
        self._id = ""
        self._cancelling: threading.Thread | None = None

    def __call__(self, request: dict[str, Any]) -> int:
        if self._options.source is not None:
            from api.client.upload import upload

            request["source"] = {"type": "uploaded", "id": upload(self._connection, self._options.source, self._screen)}
        build = self._submit(request)
        if self._options.detach and self._signals.received is None:
            self._print(build, f"{build['id']}\n")
            return 0
        return self._finish(self._follow())

    def leave(self) -> None:
        """Say what a signal left behind."""
        if self._signals.respond == self._cancel:
            # Two signals at once, as when a terminal is closed, come here before the first was answered.
            (self._cancelling or self._start_cancelling()).join(_LAST_CHANCE)
        self._screen.say(self._farewell)

    def _submit(self, request: dict[str, Any]) -> dict[str, Any]:
        self._farewell = "Interrupted; whether the build was submitted is not known. `sibling ps` lists it if so."
        self._signals.respond = self._cancel_later
        key = os.urandom(16).hex()  # a POST whose answer is lost is sent again, and makes no second build
        build: dict[str, Any] = self._connection.json("POST", "/v1/builds", request, {"Idempotency-Key": key})
        self._id = build["id"]
        return build

    def _follow(self) -> dict[str, Any]:
        # Before a signal may start a thread: starting one is not reentrant.
        waiting = Waiting(self._connection, self._id, self._screen)
        descriptor = terminal.MESSAGES if self._options.json else terminal.OUTPUT

        def write(data: bytes) -> None:
            waiting.stop()
            terminal.write(descriptor, data)

        self._signals.respond = self._cancel
        if self._signals.received is not None:
            self._cancel()
        try:
            timestamps = self._options.timestamps
            return log_of(self._connection, self._id, write, timestamps=timestamps, descriptor=descriptor).follow()
        except OutputClosed:
            self._end_unseen()
            raise
        except ClientError as error:
            raise ClientError(f"{error} Build {self._id} goes on; `sibling logs -f {self._id}` follows it.") from error
        finally:
            waiting.stop()

    def _finish(self, build: dict[str, Any]) -> int:
        if self._signals.received is not None:
            self._screen.say(summary(build))
            return Interrupted(self._signals.received).exit_code
        self._farewell = f"Interrupted; the artifacts of build {self._id} are not complete."
        self._signals.respond = self._signals.leave
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

    def _cancel_later(self) -> None:
        self._screen.say("Waiting for the service's answer, to cancel the build; once more to leave without it.")

    def _cancel(self) -> None:
        self._start_cancelling()
        self._screen.say(f"Cancelling build {self._id}; once more to leave without waiting for its end.")

    def _start_cancelling(self) -> threading.Thread:
        self._farewell = f"Left build {self._id}, and its cancel is not confirmed: `sibling cancel {self._id}`."
        thread = threading.Thread(target=self._request_cancel, daemon=True)
        thread.start()
        self._cancelling = thread
        return thread

    def _request_cancel(self) -> None:
        try:
            with contextlib.closing(self._connection.twin()) as connection:
                connection.json("POST", build_path(self._id, "cancel"))
        except ClientError as error:
            self._screen.say(f"Build {self._id} could not be cancelled: {error}")
        else:
            self._farewell = f"Left build {self._id}; its cancel was requested."

    def _end_unseen(self) -> None:
        """Nobody reads the log any more: cancel the build and see it end."""
        self._request_cancel()
        while (build := wait(self._connection, self._id, _ASK_EVERY))["state"] != "finished":
            pass
        self._screen.say(summary(build))


COMMANDS = {"run": main}
