"""One command's command line, and what every command shares: where the service is, and how errors end."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from api.client.address import DEFAULT_URL
from api.client.connection import Connection
from api.client.errors import ClientError, OutputClosed
from api.client.terminal import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED = 1
USAGE_ERROR = 2
READER_LEFT = 141  # 128 + SIGPIPE, as `cat` ends in `cat FILE | head -1`


class Parser(argparse.ArgumentParser):
    """A command line with examples below its options; `usage_error` is its exit code when it is wrong."""

    def __init__(self, name: str, description: str, examples: str, usage_error: int = USAGE_ERROR) -> None:
        super().__init__(
            f"sibling {name}",
            description=description,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._usage_error = usage_error
        self.add_argument(
            "--url", help=f"the service's address, or SIBLING_URL; also unix:///PATH (default {DEFAULT_URL})"
        )
        self.add_argument(
            "--token-file", metavar="FILE", help="file with the token, or SIBLING_TOKEN_FILE, or SIBLING_TOKEN"
        )

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit."""
        self.exit(self._usage_error, f"{self.format_usage()}[sibling] {message}. `{self.prog} --help` says more.\n")


def perform(
    work: Callable[[argparse.Namespace, Connection, Screen], int], options: argparse.Namespace, failed: int = FAILED
) -> int:
    """Do a command's work with the connection that its options ask for; its exit code, or `failed` after an error."""
    screen = Screen()
    try:
        with contextlib.closing(_connection(options, screen)) as connection:
            return work(options, connection, screen)
    except OutputClosed as error:
        if error.reader_left:
            return READER_LEFT
        screen.say(str(error))
    except ClientError as error:
        screen.say(str(error))
    return failed


def _connection(options: argparse.Namespace, screen: Screen) -> Connection:
    url = options.url or os.environ.get("SIBLING_URL") or DEFAULT_URL
    return Connection(url, _token(options.token_file), screen.say)


def _token(file: str | None) -> str | None:
    if file is None and (token := os.environ.get("SIBLING_TOKEN", "").strip()):
        return _visible(token, "SIBLING_TOKEN")
    path = file or os.environ.get("SIBLING_TOKEN_FILE")
    if not path:
        return None
    try:
        return _visible(Path(path).read_text("utf-8", "replace").strip(), path)
    except OSError as error:
        raise ClientError(f"The token file {path} cannot be read: {error.strerror}.") from error


def _visible(token: str, where: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ClientError(f"{where} holds no token; a token is one line such as sbl_KEYID_SECRET.")
    return token
