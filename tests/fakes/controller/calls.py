"""A request on its way to the page that answers it, and the table of all pages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote

from . import access
from .answers import Refused, bare
from .exported import BadTree, pruner_of
from .shapes import Shapes
from .why import speaks_english

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from .access import Caller
    from .core import Core
    from .exported import Bean
    from .things import Build, Job, Node


@dataclass
class Call:
    """A request whose caller is known. Pages raise Refused for whatever ends it early."""

    core: Core
    caller: Caller
    method: str
    path: str  # still percent-encoded
    query_text: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    query: dict[str, str] = field(init=False)
    form: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.query = _fields(self.query_text)
        kind = self.headers.get("content-type", "")
        self.form = _fields(self.body.decode(errors="replace")) if kind.startswith("application/x-www-form") else {}

    def argument(self, name: str) -> str | None:
        """As Jenkins takes it: from the address or from the form."""
        return self.query.get(name, self.form.get(name))

    @property
    def shapes(self) -> Shapes:
        english = speaks_english(self.headers.get("accept-language"))
        return Shapes(self.core.state, self.core.url, self.caller, english=english)

    def export(self, bean: Bean) -> Response:
        try:
            pruner = pruner_of(self.query.get("tree"), self.query.get("depth"))
        except (BadTree, ValueError) as error:
            raise Refused(self.core.answers.broken(f"tree or depth: {error}", 400)) from None
        return self.core.answers.json(bean.shown(pruner))

    def need(self, permission: str) -> None:
        if not self.caller.may(permission):
            code = access.PERMISSIONS[permission]
            raise Refused(self.core.answers.forbidden(self.caller.name, permission, code))

    def must_post(self, *, form_page: bool = False) -> None:
        """405 otherwise; only some pages tell what they allow."""
        if self.method == "POST":
            return
        if form_page:
            raise Refused(self.core.answers.page(405, "Form post required - Jenkins", Allow="POST"))
        raise Refused(self.core.answers.page(405, "Method Not Allowed - Jenkins"))

    def node(self, name: str) -> Node:
        node = self.core.state.computer(name)
        if node is None:
            raise Refused(self.core.answers.not_found())
        return node

    def job(self, path: str) -> Job:
        """The job of `/job/A/job/B`. Who may not read it is told that there is none."""
        name = "/".join(unquote(part) for part in path.split("/job/")[1:])
        job = self.core.state.jobs.get(name)
        if job is None or not self.caller.may("Job/Read"):
            raise Refused(self.core.answers.not_found())
        return job

    def build(self, path: str, number: str) -> Build:
        job = self.job(path)
        newest = max(job.builds, default=0)
        build = job.builds.get(newest if number == "lastBuild" else int(number))
        if build is None:
            raise Refused(self.core.answers.not_found())
        return build


def _fields(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}


_PAGES: list[tuple[re.Pattern[str], bool, Callable[..., Response]]] = []
JOB = r"((?:/job/[^/]+)+)"


def page(pattern: str, *, public: bool = False) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
    """Register what answers at a path; the pattern's groups are given to it, decoded, but for JOB."""

    def register(answer: Callable[..., Response]) -> Callable[..., Response]:
        _PAGES.append((re.compile(pattern + "/?"), public, answer))
        return answer

    return register


def answer(call: Call) -> Response:
    """Find the page and ask it. Anonymous gets no further than the public ones."""
    for pattern, public, respond in _PAGES:
        found = pattern.fullmatch(call.path)
        if found:
            _check_read(call, public=public)
            groups = [group if group.startswith("/job/") else unquote(group) for group in found.groups()]
            return respond(call, *groups)
    _check_read(call, public=False)
    return call.core.answers.not_found()


def _check_read(call: Call, *, public: bool) -> None:
    if public:
        return
    if call.caller.user is None:
        raise Refused(call.core.answers.login_first(call.path))
    call.need("Overall/Read")


def redirect(to: str) -> Response:
    return bare(302, quote(to, safe="/%()"))
