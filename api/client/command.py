"""One command's command line, and what every command shares: where the service is, and how errors end."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path

from api.client.address import BUILD_SOCKET, DEFAULT_URL
from api.client.connection import Connection
from api.client.errors import ClientError, OutputClosed
from api.client.terminal import OUTPUT, Screen, columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

FAILED = 1
USAGE_ERROR = 2
NOT_RUN = 125  # as `docker run` has it: it is not what was to be run that failed
READER_LEFT = 141  # 128 + SIGPIPE, as `cat` ends in `cat FILE | head -1`


class _Help(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal: argparse makes one for each option, and would load `shutil` to find that out."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=columns(OUTPUT) - 2)


class Parser(argparse.ArgumentParser):
    """A command line with examples below its options; `usage_error` is its exit code when it is wrong."""

    def __init__(self, name: str, description: str, examples: str, usage_error: int = USAGE_ERROR) -> None:
        super().__init__(
            f"sibling {name}",
            description=description,
            epilog=f"examples:\n{examples}",
            formatter_class=_Help,
            allow_abbrev=False,
        )
        self._usage_error = usage_error
        self.add_argument(
            "--url",
            help="the service's address, or SIBLING_URL; also unix:///PATH "
            f"(default: the build's own socket in a container of Sibling's, else {DEFAULT_URL})",
        )
        token = self.add_mutually_exclusive_group()
        token.add_argument(
            "--token-file", metavar="FILE", help="file with the token, or SIBLING_TOKEN_FILE, or SIBLING_TOKEN"
        )
        token.add_argument(
            "--id-token-file",
            metavar="FILE",
            help="file with the Jenkins build's id token, which is exchanged for a token, or SIBLING_ID_TOKEN_FILE, or "
            "SIBLING_ID_TOKEN",
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
    url = options.url or os.environ.get("SIBLING_URL") or default_url(BUILD_SOCKET)
    token = _token(options.token_file) if options.id_token_file is None else None
    # A build's own socket knows who calls.
    if token is None and url != f"unix://{BUILD_SOCKET}":
        token = _exchanged(options.id_token_file, url, screen)
    return Connection(url, token, screen.say)


def default_url(socket: str) -> str:
    """The service of the build that we run in, if `socket` is there, else of this machine."""
    with contextlib.suppress(OSError):  # a host's folder of that name, which not everyone may look into
        if Path(socket).is_socket():
            return f"unix://{socket}"
    return DEFAULT_URL


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


def _exchanged(file: str | None, url: str, screen: Screen) -> str | None:
    if not (file or os.environ.get("SIBLING_ID_TOKEN") or os.environ.get("SIBLING_ID_TOKEN_FILE")):
        return None
    from api.client import id_token  # few need it, and the start of every command would take longer

    return id_token.exchanged(file, url, screen.say)


def _visible(token: str, where: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ClientError(f"{where} holds no token; a token is one line such as sbl_KEYID_SECRET.")
    return token
