"""Where the service is: http, https or a Unix socket, and how to open a connection there."""

from __future__ import annotations

import socket
from http.client import HTTPConnection
from urllib.parse import unquote, urlsplit

from api.client.errors import ClientError

TYPE_CHECKING = False

DEFAULT_URL = "http://127.0.0.1:8700"
# In every container that Sibling started: the service, under the identity of that container's build.
BUILD_SOCKET = "/run/sibling/api.sock"
# A follower of a silent build sends and gets nothing for hours; these tell it of a vanished peer (seconds, count).
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}


class Address:
    """A service's address. `host` is a path for scheme `unix`; `prefix` goes before every request's path."""

    def __init__(self, url: str, scheme: str, host: str, port: int | None, prefix: str) -> None:
        self.url = url
        self.scheme = scheme
        self.host = host
        self.port = port
        self.prefix = prefix

    @property
    def local(self) -> bool:
        """Whether bytes on the way cost next to nothing, so that compressing them only costs time."""
        if self.scheme == "unix" or self.host == "localhost":
            return True
        import ipaddress

        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def connect(self, timeout: float) -> HTTPConnection:
        """Open a connection; raises OSError."""
        connection = self._connection(timeout)
        connection.connect()
        if self.scheme != "unix":
            _keep_alive(connection.sock)
        return connection

    def _connection(self, timeout: float) -> HTTPConnection:
        if self.scheme == "unix":
            return _UnixConnection(self.host, timeout)
        if self.scheme == "https":
            from http.client import HTTPSConnection

            return HTTPSConnection(self.host, self.port, timeout=timeout)
        return HTTPConnection(self.host, self.port, timeout=timeout)


def parse(url: str) -> Address:
    """The address that `url` names; raises ClientError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ClientError(f"{url!r} is not an address: {error}.") from error
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return Address(url, "unix", unquote(parts.path), None, "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClientError(f"{url!r} is not an address; write http://HOST:PORT, https://HOST or unix:///PATH.")
    if parts.username or parts.query or parts.fragment:
        raise ClientError(
            "The service's address must hold no user name, query or fragment; a token is given on its own."
        )
    return Address(url, parts.scheme, parts.hostname, port, parts.path.rstrip("/"))


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):  # macOS lacks TCP_KEEPIDLE
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
