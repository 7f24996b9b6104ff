"""How the verbs of `jenkins_controller` reach Jenkins: python-jenkins' session in threads, failures as our errors."""

from __future__ import annotations

import threading
import time
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin

import jenkins
from anyio import CapacityLimiter, to_thread
from requests import Request, Response
from requests.exceptions import RequestException, Timeout
from urllib3.exceptions import HTTPError

from agent.errors import ControllerUnavailable, root_cause
from agent.jenkins_controller.answers import Answer, Refused, check

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

T = TypeVar("T")

_CALLS = 8  # at once; requests keeps ten connections
_PART = 64 * 1024


class _Session(jenkins.WrappedSession):
    """Follows no redirect.

    Jenkins answers each form with one, to a page that it would render for nobody; and a proxy's redirect of a POST,
    followed as a GET, looks like done.
    """

    def get_redirect_target(self, resp: Response) -> None:  # noqa: ARG002 - requests gives it
        return None


class _Client(jenkins.Jenkins):
    """python-jenkins with one token, and with answers as they are: its errors hide the status and the page."""

    _session: _Session

    def __init__(self, url: str, user: str, token: str, ca_file: Path | None, timeout: float) -> None:
        super().__init__(url, user, token, timeout=timeout)  # type: ignore[arg-type] # its stub knows whole seconds
        self.crumb = False  # an API token needs none, and asking for one costs a request
        self._session = _Session()
        self._session.verify = str(ca_file) if ca_file else True
        self._session.trust_env = False  # or each call would look for proxies and a .netrc
        self._session.headers["Accept-Language"] = "en"  # `why` and error pages are in the caller's language

    def _response_handler(self, response: Response) -> Response:
        return response

    def close(self) -> None:
        self._session.close()


class JenkinsCalls:
    """Calls to the controller at `url`, which ends in `/`.

    `timeout` bounds, in seconds, the wait for each part of an answer, and twice that the whole. `token` is read for the
    first call, and again after an answer that refused it, so that a replaced one heals without a restart.
    """

    def __init__(self, url: str, user: str, token: Callable[[], str], ca_file: Path | None, timeout: float) -> None:
        self.url = url
        self._user = user
        self._read_token = token
        self._make = partial(_Client, url, user, ca_file=ca_file, timeout=timeout)
        self._timeout = timeout
        self._limiter = CapacityLimiter(_CALLS)
        self._lock = threading.Lock()
        self._client: _Client | None = None
        self._token = ""
        self._doubtful = False

    async def get(self, doing: str, path: str, tree: str | None = None) -> Answer:
        """Read what is at `path`, of a `tree` of JSON. Raises ControllerUnavailable, ControllerRefused, Refused."""
        return await self._ask(doing, "GET", path, params={"tree": tree} if tree else None)

    async def post(self, doing: str, path: str, form: Mapping[str, str] | None = None) -> Answer:
        """Send a form. Raises what `get` does; after ControllerUnavailable the form may have been taken or not."""
        return await self._ask(doing, "POST", path, data=form)

    def close(self) -> None:
        """Let go of all connections."""
        if self._client:
            self._client.close()

    async def _ask(self, doing: str, method: str, path: str, **parts: Any) -> Answer:
        request = Request(method, urljoin(self.url, path), **parts)
        answer = await to_thread.run_sync(self._send, doing, path, request, limiter=self._limiter)
        return check(answer)

    def _send(self, doing: str, path: str, request: Request) -> Answer:
        client = self._current()
        until = time.monotonic() + self._timeout
        try:
            with client.jenkins_request(request, stream=True) as response:
                body = _body(response, until)
        except (jenkins.JenkinsException, RequestException, HTTPError) as error:
            cause = root_cause(error)
            raise ControllerUnavailable(
                f"could not {doing}: no answer from the controller at {self.url} ({cause or type(cause).__name__})"
            ) from error
        self._doubtful = response.status_code == HTTPStatus.UNAUTHORIZED
        return Answer(
            doing=doing,
            url=self.url,
            user=self._user,
            method=request.method or "",
            asked=path,
            status=response.status_code,
            reason=response.reason,
            headers=response.headers,
            body=body,
        )

    def _current(self) -> _Client:
        with self._lock:
            if self._client is None or self._doubtful:
                token = self._read_token()
                if self._client is None or token != self._token:
                    self.close()
                    self._client, self._token = self._make(token), token
            return self._client


async def unless(status: HTTPStatus, call: Awaitable[T]) -> T | None:
    """What the call gives, or None if Jenkins refuses it with this status."""
    try:
        return await call
    except Refused as refused:
        if refused.status != status:
            raise
        return None


def _body(response: Response, until: float) -> bytes:
    """All of it. `read1`, since other reads wait for a whole part, however slowly its bytes come."""
    parts = []
    while part := response.raw.read1(_PART, decode_content=True):
        if time.monotonic() > until:
            raise Timeout("the answer came too slowly")
        parts.append(part)
    return b"".join(parts)
