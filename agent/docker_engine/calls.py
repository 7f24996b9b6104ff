"""How the verbs of `docker_engine` reach the socket: in threads, with every failure told as one of our errors.

Short calls go through the Docker SDK and its pool of connections; long ones have connections and a limiter of their
own, so that a hundred open streams keep no short call waiting.
"""

from __future__ import annotations

import math
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from anyio import CapacityLimiter, to_thread
from docker import APIClient
from docker.errors import APIError
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool
from requests.exceptions import RequestException

from agent.docker_engine.stream import Connection, DockerStream
from agent.docker_engine.wire import API_VERSION, Refused
from agent.errors import EngineUnavailable, root_cause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from http import HTTPStatus

T = TypeVar("T")

_SHORT_CALLS = 16


class _Connection(UnixHTTPConnection):
    """Is closed when it cannot connect; the SDK leaves such sockets to the garbage collector."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.unix_socket)


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        return _Connection(self.base_url, self.socket_path)  # each request brings its timeout


class _Adapter(UnixHTTPAdapter):
    """Keeps connections for the next call; the SDK has a pool for each URL, and so hardly ever uses one again."""

    def __init__(self, path: str, timeout: int) -> None:
        super().__init__(f"http+unix://{path}", timeout)
        self._pool = _Pool("http+docker://localhost", path, timeout, maxsize=_SHORT_CALLS)

    def get_connection(self, url: bytes | str, proxies: object = None) -> _Pool:  # noqa: ARG002 - requests gives both
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()


class DockerCalls:
    """Calls to the engine at one Unix socket.

    `timeout` bounds a short call, in seconds. At most `long_calls` of the others are under way at once, and more wait
    their turn; one that is cancelled ends at once.
    """

    def __init__(self, path: str, timeout: float, long_calls: int) -> None:
        self.path = path
        self.timeout = math.ceil(timeout)
        self._short = CapacityLimiter(_SHORT_CALLS)
        self._long = CapacityLimiter(long_calls)
        self._connections: WeakSet[Connection] = WeakSet()
        self.sdk = APIClient(f"unix://{path}", version=API_VERSION, timeout=self.timeout)
        self.sdk.mount("http+docker://", _Adapter(path, self.timeout))
        self.sdk.trust_env = False  # or each call would look for proxies and a .netrc

    async def short(self, doing: str, verb: Callable[..., T], *args: object, **options: Any) -> T:
        """Call a verb of the SDK. Raises Refused, EngineUnavailable."""
        return await self._verb(doing, partial(verb, *args, **options), self._short)

    async def slow(self, doing: str, verb: Callable[..., T], *args: object, **options: Any) -> T:
        """The same for a verb that takes its time."""
        return await self._verb(doing, partial(verb, *args, **options), self._long)

    async def long(self, doing: str, call: Callable[[Connection], T]) -> T:
        """Run `call` on a connection of its own, which ends with it. Raises Refused, EngineUnavailable."""
        connection = self._connect(doing)
        try:
            return await to_thread.run_sync(call, connection, abandon_on_cancel=True, limiter=self._long)
        finally:
            connection.end()

    async def stream(self, doing: str, begin: Callable[[Connection], None]) -> DockerStream:
        """Open a stream, for which `begin` asks. Raises Refused, EngineUnavailable."""
        connection = self._connect(doing)
        try:
            await to_thread.run_sync(begin, connection, limiter=self._short)
        except BaseException:
            connection.end()
            raise
        return DockerStream(connection, self._long)

    def close(self) -> None:
        """Let go of all connections; long calls and streams end with EngineUnavailable."""
        for connection in tuple(self._connections):
            connection.cut()
        self.sdk.close()

    def _connect(self, doing: str) -> Connection:
        connection = Connection(self.path, doing, self.timeout)
        self._connections.add(connection)
        return connection

    async def _verb(self, doing: str, verb: Callable[[], T], limiter: CapacityLimiter) -> T:
        try:
            return await to_thread.run_sync(verb, abandon_on_cancel=limiter is self._long, limiter=limiter)
        except APIError as error:
            raise Refused(doing, error.status_code or 0, error.explanation or str(error)) from error
        except RequestException as error:
            reason = root_cause(error)
            raise EngineUnavailable(
                f"could not {doing}: no answer from the engine at {self.path} ({reason})"
            ) from error


async def unless(status: HTTPStatus, call: Awaitable[T]) -> T | None:
    """What the call gives, or None if the engine refuses it with this status."""
    try:
        return await call
    except Refused as refused:
        if refused.status != status:
            raise
        return None
