"""One build that a person waits for: submitted, followed and, when a signal asks for it, cancelled."""

from __future__ import annotations

import contextlib
import os
import threading

from api.client.connection import build_path
from api.client.errors import ClientError, Interrupted, OutputClosed
from api.client.signals import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from api.client.connection import Connection
    from api.client.log_stream import Log
    from api.client.terminal import Screen

    Write = Callable[[bytes], None]

# How long a second Ctrl-C lets the request to cancel, already on its way, reach the service; in seconds.
_LAST_CHANCE = 1.0
_ASK_EVERY = 30


def attend(connection: Connection, screen: Screen, work: Callable[[Attended], int]) -> int:
    """Do `work`, whose build INT, TERM and HUP cancel from its submission on; the exit code. Raises ClientError."""
    signals = Signals()
    attended = Attended(connection, screen, signals)
    try:
        with signals:
            return work(attended)
    except Interrupted as interruption:
        attended.leave()
        return interruption.exit_code


class Attended:
    """The build, once it is submitted. `_farewell` is what to say if the present step is left by a signal."""

    def __init__(self, connection: Connection, screen: Screen, signals: Signals) -> None:
        self._connection = connection
        self._screen = screen
        self._signals = signals
        self._farewell = "Interrupted; nothing was submitted."
        self._id = ""
        self._cancelling: threading.Thread | None = None

    @property
    def interrupted(self) -> bool:
        """Whether a signal came."""
        return self._signals.received is not None

    def submit(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        """Post the request to `path`; the build. Raises ClientError."""
        self._farewell = "Interrupted; whether the build was submitted is not known. `sibling ps` lists it if so."
        self._signals.respond = self._cancel_later
        key = os.urandom(16).hex()  # a POST whose answer is lost is sent again, and makes no second build
        build: dict[str, Any] = self._connection.json("POST", path, request, {"Idempotency-Key": key})
        self._id = build["id"]
        return build

    def follow(self, log: Callable[[Write], Log], write: Write) -> dict[str, Any]:
        """Hand the log, made by `log`, to `write` up to the build's end; the build as it ended. Raises ClientError."""
        from api.client.waiting import Waiting

        # Before a signal may start a thread: starting one is not reentrant.
        waiting = Waiting(self._connection, self._id, self._screen)

        def show(data: bytes) -> None:
            waiting.stop()
            write(data)

        self._signals.respond = self._cancel
        if self.interrupted:
            self._cancel()
        try:
            return log(show).follow()
        except OutputClosed:
            self._end_unseen()
            raise
        except ClientError as error:
            raise ClientError(f"{error} Build {self._id} goes on; `sibling logs -f {self._id}` follows it.") from error
        finally:
            waiting.stop()

    def finish(self, build: dict[str, Any], work: Callable[[], int]) -> int:
        """Do what is left to do with the ended build, unless a signal cancelled it; the exit code.

        A signal from now on leaves `work` where it is. Raises ClientError.
        """
        if self._signals.received is not None:
            from api.client.outcome import summary

            self._screen.say(summary(build))
            return Interrupted(self._signals.received).exit_code
        self._farewell = f"Interrupted; the artifacts of build {self._id} are not complete."
        self._signals.respond = self._signals.leave
        return work()

    def leave(self) -> None:
        """Say what a signal left behind."""
        if self._signals.respond == self._cancel:
            # Two signals at once, as when a terminal is closed, come here before the first was answered.
            (self._cancelling or self._start_cancelling()).join(_LAST_CHANCE)
        self._screen.say(self._farewell)

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
        from api.client.log_stream import wait
        from api.client.outcome import summary

        self._request_cancel()
        while (build := wait(self._connection, self._id, _ASK_EVERY))["state"] != "finished":
            pass
        self._screen.say(summary(build))
