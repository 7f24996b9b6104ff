"""Every error that the client shows. `str()` is a sentence for the person at the command line.

ClientError
 ├─ CannotConnect   no answer: nothing listens there, the name is unknown, the connection stays lost
 ├─ Refused         the service answered with an error; carries its status
 └─ OutputClosed    standard output takes nothing more; quiet if its reader simply went away

Interrupted is none of them: it is a signal, and passes every `except Exception`.
"""

from __future__ import annotations

import errno
import json
from socket import gaierror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ADDRESS_ADVICE = "Give the service's address with --url or SIBLING_URL."
_SIGN_IN_ADVICE = (
    "Give a token with --token-file, SIBLING_TOKEN_FILE or SIBLING_TOKEN; `sibling token create` makes one."
)


class ClientError(Exception):
    """What went wrong and what to do about it."""


class CannotConnect(ClientError):
    """The service gave no answer."""


class Refused(ClientError):
    """The service answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class OutputClosed(ClientError):
    """Nothing more can be written to standard output."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"Standard output cannot be written: {error.strerror}.")
        self.reader_left = error.errno == errno.EPIPE


class Interrupted(BaseException):
    """A signal asked the program to end; `exit_code` is 128 plus its number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def cannot_connect(url: str, error: Exception) -> CannotConnect:
    """Why the service at `url` could not be reached."""
    return CannotConnect(f"Cannot connect to {url}: {_connect_reason(error)}")


def _connect_reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens there. Is the service running (`sibling serve`)? {_ADDRESS_ADVICE}"
    if isinstance(error, gaierror):
        return f"no such host is known. {_ADDRESS_ADVICE}"
    if isinstance(error, FileNotFoundError):
        return f"there is no such socket. Is the service running (`sibling serve`)? {_ADDRESS_ADVICE}"
    if isinstance(error, PermissionError):
        return "you may not write to that socket; ask for membership in its group."
    if hasattr(error, "verify_message"):  # ssl.SSLCertVerificationError; no import, as few addresses need ssl
        return f"its certificate is not trusted ({error.verify_message}). Name your CA's file in SSL_CERT_FILE."
    return f"{_words(error)}. {_ADDRESS_ADVICE}"


def connection_lost(url: str, error: Exception, seconds: float) -> CannotConnect:
    """The service at `url` was reached before and has been gone for `seconds`."""
    return CannotConnect(
        f"The connection to {url} was lost and did not come back within {seconds:.0f} s: {_words(error)}."
    )


def _words(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


def refused(status: int, reason: str, retry_after: str | None, body: bytes) -> Refused:
    """The sentence for an error answer: problem+json (RFC 9457) with its fields, or whatever a proxy said."""
    problem = _problem(body)
    sentence = str(problem.get("detail") or problem.get("title") or f"The service answered {status} {reason}").rstrip(
        "."
    )
    advice = {401: f" {_SIGN_IN_ADVICE}", 503: f" Try again in {retry_after} s." if retry_after else ""}.get(status, "")
    rule = f" (rule {problem['rule']})" if problem.get("rule") else ""
    return Refused(status, f"{sentence}{rule}.{advice}{_fields(problem)}")


def _problem(body: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(body)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _fields(problem: dict[str, Any]) -> str:
    errors = problem.get("errors")
    entries = [entry for entry in errors if isinstance(entry, dict)] if isinstance(errors, list) else []
    return "".join(f"\n  {entry.get('field')}: {entry.get('message')}" for entry in entries)
