"""Where an issuer's keys come from: a file, or its server, which is asked for no more than settings allow.

The server's answers lead nowhere else: redirects are not followed, and discovery may only name a URL on the same
server. No proxy is used.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from agent.jwks import KeysUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.jwks import KeySource
    from agent.settings.oidc import OidcSettings

PAUSE = 10.0  # seconds between two looks at a server, however many tokens with unknown keys come
MAX_AGE = 600.0  # seconds for which what a server said holds
MAX_SIZE = 256 * 1024  # bytes of a document


def key_source(settings: OidcSettings) -> KeySource:
    """The source that the settings of an issuer name."""
    return KeySite(settings) if settings.jwks_file is None else KeyFile(settings.jwks_file)


class KeyFile:
    """A JWKS in a file, read each time."""

    pause = 0.0
    max_age = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> bytes:
        """The file's content. Raises KeysUnreadable."""
        try:
            with self._path.open("rb") as file:
                return _bounded(file.read(MAX_SIZE + 1), str(self._path))
        except OSError as error:
            raise KeysUnreadable(f"{self._path} cannot be read: {error.strerror}") from error


class KeySite:
    """A JWKS on the issuer's server, at a URL that is given, or else that discovery gives.

    https://openid.net/specs/openid-connect-discovery-1_0.html, sections 3 and 4
    """

    pause = PAUSE
    max_age = MAX_AGE

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings

    def load(self) -> bytes:
        """The server's answer. Raises KeysUnreadable."""
        return self._fetch(self._settings.jwks_url or self._discovered())

    def _discovered(self) -> str:
        issuer = self._settings.issuer
        url = issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            told = json.loads(self._fetch(url))
            named, found = told["issuer"], told["jwks_uri"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise KeysUnreadable(f"{url} has no JSON object with `issuer` and `jwks_uri`") from error
        if named != issuer:
            raise KeysUnreadable(f"{url} is of another issuer, {named!r}")
        if not isinstance(found, str) or not _is_on_server_of(issuer, found):
            raise KeysUnreadable(f"{url} names keys at {found!r}, on another server; if that is right, give jwks_url")
        return found

    def _fetch(self, url: str) -> bytes:
        connection: HTTPConnection | None = None
        try:
            connection = self._connection(url)
            connection.connect()
            connection.sock.settimeout(None)  # what follows is cut as a whole, and says so
            with _cut_after(self._settings.timeout, connection.sock):
                parts = urlsplit(url)
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                connection.request("GET", target, headers={"Accept": "application/json", "User-Agent": "sibling"})
                with connection.getresponse() as response:  # it may hold the socket alone by now
                    body = response.read(MAX_SIZE + 1)
        except (OSError, HTTPException, ValueError) as error:
            raise KeysUnreadable(f"{url} did not answer: {str(error) or type(error).__name__}") from error
        finally:
            if connection is not None:
                connection.close()
        if response.status != HTTPStatus.OK:
            where = f" to {location!r}, which is not followed" if (location := response.headers["Location"]) else ""
            raise KeysUnreadable(f"{url} answered {response.status} {response.reason}{where}")
        return _bounded(body, url)

    def _connection(self, url: str) -> HTTPConnection:
        parts = urlsplit(url)
        host, timeout = parts.hostname or "", self._settings.timeout
        if parts.scheme == "http":
            return HTTPConnection(host, parts.port, timeout=timeout)
        context = ssl.create_default_context(cafile=self._settings.ca_file)
        return HTTPSConnection(host, parts.port, timeout=timeout, context=context)


def _bounded(document: bytes, where: str) -> bytes:
    if len(document) > MAX_SIZE:
        raise KeysUnreadable(f"{where} has more than {MAX_SIZE} bytes")
    return document


def _is_on_server_of(issuer: str, url: str) -> bool:
    ours, theirs = urlsplit(issuer), urlsplit(url)
    try:
        same = (ours.scheme, ours.hostname, _port(ours)) == (theirs.scheme, theirs.hostname, _port(theirs))
    except ValueError:  # the port is none
        return False
    return same and re.fullmatch(r"[!-~]+", url) is not None


def _port(parts: SplitResult) -> int:
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


@contextmanager
def _cut_after(seconds: float, sock: socket.socket) -> Iterator[None]:
    """Hang up if the block takes longer, however slowly bytes come, and raise TimeoutError."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS, whose own takes the reader's state away

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late.is_set():
            raise TimeoutError(f"the answer took longer than {seconds:g} s")
