"""Answers as the recordings have them: which are Jenkins' own (with X-Jenkins) and which come from Jetty below it."""

from __future__ import annotations

import html
import json
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

VERSION = "2.541.3"
_NO_CACHE = {"Cache-Control": "no-cache,no-store,must-revalidate", "Expires": "0"}


class Refused(Exception):
    """Ends a request with this answer."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


class Answers:
    """Makes answers for one start of the controller, whose `session` X-Jenkins-Session tells."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.cookie = f"JSESSIONID.{session}"

    def _marks(self) -> dict[str, str]:
        return {"X-Jenkins": VERSION, "X-Jenkins-Session": self.session}

    def json(self, data: Any) -> Response:
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        return _answer(200, text, "application/json;charset=utf-8", self._marks())

    def page(self, status: int, title: str, text: str = "", **headers: str) -> Response:
        """A page of Jenkins' own."""
        head = f"<!DOCTYPE html><html><head><title>{html.escape(title)}</title></head>"
        body = f"{head}<body><p>{html.escape(text)}</p></body></html>"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        marks = {"X-Hudson": "1.395", **self._marks(), **_NO_CACHE}
        return _answer(status, body, "text/html;charset=utf-8", marks | named)

    def not_found(self) -> Response:
        return self.page(404, "Not Found - Jenkins")

    def error(self, status: int, message: str) -> Response:
        """What a `Failure` turns into: its message in a header, where characters beyond Latin-1 become blanks."""
        header = "".join(character if ord(character) < 256 else " " for character in message)
        return self.page(status, "Jenkins - Jenkins", message, X_Error=header)

    def broken(self, message: str, status: int = 500) -> Response:
        return self.page(status, "Jenkins - Jenkins", message)

    def login_first(self, path: str) -> Response:
        """What anonymous gets where only users may read: a page that sends a browser to the login."""
        to = html.escape(f"/login?from={path}", quote=True)
        body = (
            f"<html><head><meta http-equiv='refresh' content='1;url={to}'/></head><body>"
            "Authentication required. You are authenticated as: anonymous."
            " Permission you need to have (but didn't): hudson.model.Hudson.Read</body></html>"
        )
        return _answer(403, body, "text/html;charset=utf-8", {"X-Hudson": "1.395", **self._marks()})

    def forbidden(self, user: str, permission: str, permission_id: str) -> Response:
        return self.page(
            403,
            "Access Denied - Jenkins",
            f"{user} is missing the {permission} permission",
            X_You_Are_Authenticated_As=user,
            X_Required_Permission=permission_id,
        )

    def starting(self) -> Response:
        """While it boots nothing of Jenkins' own headers is there."""
        text = "Please wait while Jenkins is getting ready to work ..."
        body = f"<html><head><title>Starting Jenkins</title></head><body>{text}</body></html>"
        return _answer(503, body, "text/html;charset=utf-8", _NO_CACHE)


def _answer(status: int, body: str | bytes, kind: str | None, headers: dict[str, str]) -> Response:
    answer = Response(body, status, headers)
    for name, value in (
        ("Server", "Jetty(12.1.5)"),
        ("X-Content-Type-Options", "nosniff"),
        ("Vary", "Accept-Encoding"),
        ("Date", formatdate(usegmt=True)),
    ):
        answer.headers[name] = value
    if kind:
        answer.headers["Content-Type"] = kind
    return answer


def bare(status: int, location: str | None = None) -> Response:
    """No body, and nothing that says who answered."""
    return _answer(status, b"", None, {"Location": location} if location else {})


def jetty(status: int, message: str | None = None, **headers: str) -> Response:
    """An error page from below Jenkins, without its headers."""
    reason = message or HTTPStatus(status).phrase
    said = html.escape(f"{status} {reason}")
    body = f"<html><head><title>Error {said}</title></head><body><h2>HTTP ERROR {said}</h2></body></html>"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    cache = {"Cache-Control": "must-revalidate,no-cache,no-store"}
    return _answer(status, body.encode("iso-8859-1", "replace"), "text/html;charset=iso-8859-1", cache | named)


def unauthorized() -> Response:
    return jetty(401, WWW_Authenticate='Basic realm="Jenkins"', Set_Cookie="remember-me=; Path=/; SameSite=Lax")


def no_crumb() -> Response:
    return jetty(403, "No valid crumb was included in the request")


def text(body: str | bytes, kind: str = "text/plain;charset=utf-8", **headers: str) -> Response:
    return _answer(200, body, kind, {name.replace("_", "-"): value for name, value in headers.items()})


def quoted(name: str) -> str:
    """In the quotation marks that Jenkins uses for people."""
    return f"\N{LEFT SINGLE QUOTATION MARK}{name}\N{RIGHT SINGLE QUOTATION MARK}"
