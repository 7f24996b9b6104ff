"""An image build or push from its submission to its end: its log, what it leaves here, and the exit code."""

from __future__ import annotations

import contextlib

from api.client import terminal
from api.client.image_result import answer, tell
from api.client.log_stream import RawLog
from api.client.outcome import image_exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from api.client.attended import Attended
    from api.client.connection import Connection
    from api.client.image_output import Output
    from api.client.terminal import Screen


class ImageEnd:
    """What is to be done with it. `tty` shows its steps as they move; `output` takes the file system."""

    def __init__(
        self,
        options: argparse.Namespace,
        connection: Connection,
        screen: Screen,
        *,
        tty: bool = False,
        output: Output | None = None,
    ) -> None:
        self._options = options
        self._connection = connection
        self._screen = screen
        self._tty = tty
        self._output = output

    def of(self, attended: Attended, build_id: str) -> int:
        """Follow the build to its end; the exit code. Raises ClientError."""
        build = self._follow(attended, build_id)
        return attended.finish(build, lambda: self._finish(build))

    def _follow(self, attended: Attended, build_id: str) -> dict[str, Any]:
        progress = None
        if self._tty:
            from api.client.progress import Progress

            progress = Progress(self._screen)
        write = progress.feed if progress else _unseen if self._options.quiet else _to_standard_error
        with progress or contextlib.nullcontext():
            return attended.follow(lambda show: RawLog(self._connection, build_id, show), write)

    def _finish(self, build: dict[str, Any]) -> int:
        try:
            if build["result"] == "SUCCESS":
                self._keep(build, build["image_build"])
        finally:
            tell(build, self._screen, quiet=self._options.quiet)
        answer(build, quiet=self._options.quiet, as_json=self._options.json)
        return image_exit_code(build)

    def _keep(self, build: dict[str, Any], image: dict[str, Any]) -> None:
        if self._output is not None:
            self._output.fetch(self._connection, build, self._screen)
        if self._options.iidfile:
            from api.client.image_output import write_id

            write_id(self._options.iidfile, image)
        if self._options.metadata_file:
            from api.client.image_output import write_metadata

            write_metadata(self._options.metadata_file, build, image)


def _to_standard_error(data: bytes) -> None:
    terminal.write(terminal.MESSAGES, data)


def _unseen(data: bytes) -> None:
    """Nobody asked for it."""
