"""Following a build's log by byte offset: through any number of lost connections no byte is missing or doubled."""

from __future__ import annotations

import contextlib

from api.client.connection import ANSWER_TIMEOUT, build_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from api.client.connection import Connection

# A log ends right before its build does. If the build goes on, only the stream has ended, and there is more to follow.
_END_IS_NEAR = 2


class Log:
    """A build's log, handed to `write` as it comes. `offset` is the log's byte offset after what was handed over."""

    def __init__(self, connection: Connection, build_id: str, write: Callable[[bytes], None]) -> None:
        self._connection = connection
        self._id = build_id
        self._write = write
        self.offset = 0

    def follow(self) -> dict[str, Any]:
        """Hand over everything up to the build's end; the build as it ended. Raises ClientError."""
        while True:
            self._stream()
            build: dict[str, Any] = wait(self._connection, self._id, _END_IS_NEAR)
            if build["state"] != "finished":
                continue
            if build["log_size"] > self.offset:
                self._stream()
            return build

    def catch_up(self) -> None:
        """Hand over what is there now; raises ClientError."""
        raise NotImplementedError

    def _stream(self) -> None:
        with contextlib.closing(self._connection.stream(self._request)) as stream:
            for data in stream:
                self._take(data)

    def _request(self) -> tuple[str, Mapping[str, str]]:
        raise NotImplementedError

    def _take(self, data: bytes) -> None:
        raise NotImplementedError


class RawLog(Log):
    """The very bytes that the build wrote."""

    def catch_up(self) -> None:
        """Hand over what is there now; raises ClientError."""
        more = True
        while more:
            data, headers = self._connection.get(build_path(self._id, "log", start=self.offset))
            self._take(data)
            # Jenkins sends X-More-Data as long as a build runs, also when there is nothing new.
            more = bool(data) and "X-More-Data" in headers

    def _request(self) -> tuple[str, Mapping[str, str]]:
        return build_path(self._id, "log", start=self.offset, follow="true"), {"Accept": "text/plain"}

    def _take(self, data: bytes) -> None:
        self._write(data)
        self.offset += len(data)


def wait(connection: Connection, build_id: str, seconds: int) -> dict[str, Any]:
    """The build when it is finished, or as it is after so many seconds, at most 60. Raises ClientError."""
    path = build_path(build_id, wait=f"{seconds}s")
    build: dict[str, Any] = connection.json("GET", path, timeout=seconds + ANSWER_TIMEOUT)
    return build
