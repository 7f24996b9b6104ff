"""What Jenkins' answers say: bodies into data, and every answer that is not the one asked for into an error. Pure.

Statuses and pages are those of a 2.541 controller. Its pages carry X-Jenkins, or tell that Jetty below it wrote them;
anything else comes from a proxy.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urljoin, urlsplit

from agent.controller import Computer, ControllerInfo, Executable, QueueItem, Run
from agent.errors import ControllerError, ControllerRefused, ControllerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")
Json = Any

INFO_TREE: Final = "url,quietingDown"
QUEUE_TREE: Final = "items[id,why,buildable,pending,inQueueSince,task[name,fullDisplayName,url,labelExpression]]"
COMPUTERS_TREE: Final = (
    "computer[displayName,description,assignedLabels[name],offline,temporarilyOffline,offlineCauseReason,idle,"
    "executors[currentExecutable[url,number,fullDisplayName]]]"
)
RUN_TREE: Final = "url,number,fullDisplayName,building,result,builtOn"
JOBS_TREE: Final = "jobs[name]{0,1}"

_SECRET = re.compile(rb"<application-desc[^>]*>\s*<argument>([0-9a-f]{64})</argument>")
_MISSING = re.compile(r"\b(\S+ is missing the .+? permission)\b")
_TITLE = re.compile(r"<title>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_SENT_BACK = (HTTPStatus.FOUND, HTTPStatus.SEE_OTHER)  # to the page that a form belongs to


class Refused(ControllerError):
    """Jenkins says no, with an HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `doing` completes "could not ..." in errors, `url` is the controller's, `asked` the path."""

    doing: str
    url: str
    user: str
    method: str
    asked: str
    status: int
    reason: str
    headers: Mapping[str, str]  # found in whatever case
    body: bytes

    def unavailable(self, why: str) -> ControllerUnavailable:
        """The error to raise if the answer is none of Jenkins'."""
        return ControllerUnavailable(f"could not {self.doing}: {self.url} {why}")

    @property
    def by_jenkins(self) -> bool:
        """Whether Jenkins wrote this error page."""
        return "X-Jenkins" in self.headers or b"jetty" in self.body.lower() or "Jetty" in self.headers.get("Server", "")

    @property
    def words(self) -> str:
        """What an error page says in short."""
        title = _TITLE.search(self.body.decode(errors="replace"))
        said = self.headers.get("X-Error") or (html.unescape(title[1]) if title else "") or self.reason
        return " ".join(said.split())[:200]


def check(answer: Answer) -> Answer:
    """The answer, if it is one to what was asked. Raises ControllerUnavailable, ControllerRefused, Refused."""
    status = answer.status
    if status == HTTPStatus.UNAUTHORIZED:
        raise ControllerRefused(
            f"could not {answer.doing}: the token of {answer.user} is wrong or was revoked (HTTP 401 from {answer.url})"
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise answer.unavailable(f"answered with HTTP {status} ({answer.words})")
    if status >= HTTPStatus.BAD_REQUEST and not answer.by_jenkins:
        raise answer.unavailable(f"answered with HTTP {status}, and not as a Jenkins does ({answer.words})")
    if status == HTTPStatus.FORBIDDEN:
        raise ControllerRefused(f"could not {answer.doing}: {_forbidden(answer)} (HTTP 403 from {answer.url})")
    if status >= HTTPStatus.BAD_REQUEST:
        raise Refused(f"could not {answer.doing}: {answer.words} (HTTP {status} from {answer.url})", status)
    if answer.method == "POST":
        _check_done(answer)
    elif status >= HTTPStatus.MULTIPLE_CHOICES:
        raise _redirected(answer)
    return answer


def read(answer: Answer, convert: Callable[[Json], T]) -> T:
    """What `convert` makes of the answer's JSON. Raises ControllerUnavailable if it is not what Jenkins answers."""
    try:
        return convert(json.loads(answer.body))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        kind = answer.headers.get("Content-Type", "nothing")
        raise answer.unavailable(f"answered with {kind} that is not Jenkins' JSON ({answer.words})") from error


def controller_info(answer: Answer) -> ControllerInfo:
    """What the controller is. Raises ControllerUnavailable if it is none."""
    if "X-Jenkins" not in answer.headers:
        raise answer.unavailable("is no Jenkins: its answer has no X-Jenkins header")
    return read(
        answer,
        lambda data: ControllerInfo(
            version=answer.headers["X-Jenkins"],
            session=answer.headers.get("X-Jenkins-Session", ""),
            url=data.get("url") or "",
            quieting_down=bool(data.get("quietingDown")),
        ),
    )


def queue_item(url: str, data: Json) -> QueueItem:
    """An item; the URL of a pipeline's part is relative to the controller's."""
    task = data["task"]
    return QueueItem(
        id=int(data["id"]),
        name=task.get("fullDisplayName") or task.get("name") or "",
        url=urljoin(url, task["url"]) if task.get("url") else "",
        why=data.get("why") or "",
        label_expression=task.get("labelExpression") or None,
        buildable=bool(data.get("buildable")),
        pending=bool(data.get("pending")),
        since=data["inQueueSince"] / 1000,
    )


def computer(data: Json) -> Computer:
    """A node. What runs there unseen by us leaves its executor's entry empty."""
    running = [executor.get("currentExecutable") for executor in data["executors"]]
    return Computer(
        name=data["displayName"],
        description=data.get("description") or "",
        labels=frozenset(label["name"] for label in data["assignedLabels"]),
        offline=data["offline"],
        marked_offline=data["temporarilyOffline"],
        reason=data.get("offlineCauseReason") or "",
        idle=data["idle"],
        executables=tuple(_executable(each) for each in running if each and each.get("url")),
    )


def run(data: Json) -> Run:
    """A run of a job."""
    return Run(
        url=data["url"],
        number=data["number"],
        name=data["fullDisplayName"],
        building=data["building"],
        result=data["result"],
        node=data.get("builtOn") or None,
    )


def secret(answer: Answer) -> str:
    """A node's secret, which is the first argument of its agent. Raises ControllerUnavailable."""
    match = _SECRET.search(answer.body)
    if match is None:
        raise answer.unavailable("answered with something that is no agent's launch file")
    return match[1].decode()


def path_below(root: str, url: str) -> str:
    """The path of a run's URL below the controller's.

    Jenkins makes absolute URLs from its configured address, which may have another host and another context path than
    the one that we call it by.
    """
    path, context = urlsplit(url).path, urlsplit(root).path
    if context != "/" and path.startswith(context):
        below = path.removeprefix(context)
    else:
        _, job, rest = path.partition("/job/")
        below = f"job/{rest}" if job else path.lstrip("/")
    return below if below.endswith("/") else f"{below}/"


def _executable(data: Json) -> Executable:
    # Of a pipeline's run it is a part, whose name is the run's with this before it (PlaceholderTask).
    name = data["fullDisplayName"].removeprefix("part of ")
    return Executable(url=data["url"], number=data["number"], name=name)


def _forbidden(answer: Answer) -> str:
    text = html.unescape(answer.body.decode(errors="replace"))
    if missing := _MISSING.search(text):
        return missing[1]
    if "No valid crumb" in text:
        return "Jenkins asks for a crumb, as it does of a password; give it an API token instead"
    permission = answer.headers.get("X-Required-Permission")
    return f"{answer.user} is missing permission {permission}" if permission else answer.words


def _check_done(answer: Answer) -> None:
    """A form that was taken leads back to its page; a proxy leads to the form on another host, or to a login."""
    to = urlsplit(answer.headers.get("Location", "")).path.lower()
    asked = answer.asked.partition("?")[0].lower()
    elsewhere = to.endswith(asked) or ("login" in to and "login" not in asked)
    if answer.status in _SENT_BACK and not elsewhere:
        return
    if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
        raise _redirected(answer)
    if "html" in answer.headers.get("Content-Type", "") and not answer.by_jenkins:
        raise answer.unavailable(f"answered with a page that is none of Jenkins' ({answer.words})")


def _redirected(answer: Answer) -> ControllerUnavailable:
    to = answer.headers.get("Location", "")
    return answer.unavailable(f"answered with a redirect to {to}; give the URL at which Jenkins itself answers")
