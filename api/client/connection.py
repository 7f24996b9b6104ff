"""HTTP to the service over one kept-alive connection; what was lost on the way is asked again.

Every request of this client may be repeated: GET, cancel, an upload (an orphan expires), and a build's POST by its key.
"""

from __future__ import annotations

import contextlib
import json
from http.client import BadStatusLine, HTTPException, RemoteDisconnected
from urllib.parse import quote, urlencode

from api.client import address as addresses
from api.client.errors import ClientError, cannot_connect, refused
from api.client.outage import Outage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from http.client import HTTPConnection, HTTPMessage, HTTPResponse
    from typing import Any

    Body = tuple[bytes, HTTPMessage]

CONNECT_TIMEOUT = 10.0
ANSWER_TIMEOUT = 60.0
PATIENCE = 60.0
CHUNK = 64 * 1024
_MAX_PROBLEM = 64 * 1024
_ERRORS_FROM = 300  # redirects too: following one would take the token elsewhere
# What a proxy answers while the service behind it restarts.
_AWAY = frozenset((502, 503, 504))
_LOST = (OSError, HTTPException)


class Connection:
    """One connection at a time to one service, for one thread.

    Timeouts and `patience`, how long a service that answered before may be away, are in seconds. Paths are below the
    service's address. Every method raises ClientError.
    """

    def __init__(
        self, url: str, token: str | None = None, say: Callable[[str], None] | None = None, patience: float = PATIENCE
    ) -> None:
        self.address = addresses.parse(url)
        self._token = token
        self._say = say or (lambda _: None)
        self._patience = patience
        self._http: HTTPConnection | None = None
        self._answered = False

    def twin(self) -> Connection:
        """Another connection to the same service, for another thread; it says nothing of outages."""
        twin = Connection(self.address.url, self._token, None, self._patience)
        twin._answered = self._answered
        return twin

    def close(self) -> None:
        """Hang up; the next request connects anew."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def json(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = ANSWER_TIMEOUT,
    ) -> Any:
        """The answer's JSON; `body` is sent as JSON unless it is None."""
        content = None if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        return self._parsed(self._whole(method, path, lambda: content, {**kind, **(headers or {})}, timeout))

    def get(self, path: str) -> Body:
        """The answer's whole body, and its headers."""
        return self._whole("GET", path, lambda: None, {}, ANSWER_TIMEOUT)

    def put(self, path: str, chunks: Callable[[], Iterator[bytes]], content_type: str, timeout: float) -> Any:
        """Send a stream, made anew by `chunks` for every attempt, and return the answer's JSON."""
        headers = {"Content-Type": content_type, "Transfer-Encoding": "chunked"}
        return self._parsed(self._whole("PUT", path, chunks, headers, timeout))

    def stream(self, ask: Callable[[], tuple[str, Mapping[str, str]]]) -> Generator[bytes, None, None]:
        """The body of a GET, piece by piece as it comes, to its regular end.

        `ask` gives path and headers; after a loss it is called again and must ask for what was not yielded yet.
        """
        outage = self._outage()
        while True:
            try:
                response = self._exchange("GET", ask(), None, None)
                outage.answered()
                for piece in self._pieces(response):
                    yield piece
                    outage.over()
            except _LOST as error:  # noqa: PERF203 - to try again is what the loop is for
                self.close()
                outage.pause(error)
            else:
                return

    def _pieces(self, response: HTTPResponse) -> Iterator[bytes]:
        try:
            # read1 counts a known length down only since Python 3.11.8.
            read = response.read1 if response.length is None else response.read
            while piece := read(CHUNK):
                yield piece
            if response.length:
                raise RemoteDisconnected(f"{response.length} bytes are missing")
        finally:
            if not response.isclosed():  # whoever reads left in the middle
                self.close()

    def _whole(
        self, method: str, path: str, body: Callable[[], Any], headers: Mapping[str, str], timeout: float
    ) -> Body:
        outage = self._outage()
        while True:
            try:
                response = self._exchange(method, (path, headers), body(), timeout)
                return response.read(), response.headers
            except _LOST as error:  # noqa: PERF203 - to try again is what the loop is for
                self.close()
                outage.pause(error)

    def _parsed(self, answer: Body) -> Any:
        try:
            return json.loads(answer[0])
        except ValueError as error:
            raise ClientError(f"{self.address.url} did not answer JSON; is it the address of a Sibling?") from error

    def _outage(self) -> Outage:
        return Outage(self.address.url, self._patience, self._say)

    def _exchange(
        self, method: str, target: tuple[str, Mapping[str, str]], body: Any, timeout: float | None
    ) -> HTTPResponse:
        path, headers = target
        http = self._connected(timeout)
        fields = {"User-Agent": "sibling", **headers}
        if self._token:
            fields["Authorization"] = f"Bearer {self._token}"
        # A service that refuses an upload answers early and hangs up: that answer says more than our broken pipe.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            http.request(method, self.address.prefix + path, body, fields, encode_chunked=True)
        response = self._answer(http)
        if response.status in _AWAY and method == "GET" and self._answered:
            raise HTTPException(f"{response.status} {response.reason}")
        if response.status >= _ERRORS_FROM:
            self._refuse(response)
        self._answered = True
        return response

    def _connected(self, timeout: float | None) -> HTTPConnection:
        if self._http is None or self._http.sock is None:
            try:
                self._http = self.address.connect(CONNECT_TIMEOUT)
            except OSError as error:
                if self._answered:
                    raise
                raise cannot_connect(self.address.url, error) from error
        self._http.sock.settimeout(timeout)
        return self._http

    def _answer(self, http: HTTPConnection) -> HTTPResponse:
        try:
            return http.getresponse()
        except RemoteDisconnected:
            raise
        except BadStatusLine as error:
            raise ClientError(
                f"What listens at {self.address.url} does not speak HTTP; is the address right?"
            ) from error

    def _refuse(self, response: HTTPResponse) -> None:
        body = response.read(_MAX_PROBLEM)
        if not response.isclosed():
            self.close()
        if location := response.headers.get("Location"):
            raise ClientError(f"{self.address.url} redirects to {location}; give that as the service's address.")
        raise refused(response.status, response.reason, response.headers.get("Retry-After"), body)


def build_path(build_id: str, *parts: str, **query: str | int) -> str:
    """The path of a build, or of what belongs to it."""
    path = "/".join(("/v1/builds", quote(build_id, safe=""), *map(quote, parts)))
    return f"{path}?{urlencode(query)}" if query else path
