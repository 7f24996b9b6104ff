"""The controller over Jenkins' REST API: each verb of `Controller` as requests that a 2.541 controller answered.

Imported by the program's start alone.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

import jenkins

from agent.errors import ControllerRefused, ControllerUnavailable, NodeExists, NodeNotFound
from agent.jenkins_controller import answers
from agent.jenkins_controller.answers import Refused
from agent.jenkins_controller.calls import JenkinsCalls, unless
from agent.jenkins_controller.permissions import probe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.controller import Computer, ControllerInfo, Permission, QueueItem, Run


class JenkinsController:
    """A `Controller`. `url` is where we reach it, `user` and `token` whose API token we have.

    `token` is called in a thread, once and after each answer that refused what it gave. `ca_file` holds the
    certificates to trust in place of the usual ones. `timeout`, in seconds, bounds the wait for each part of an answer.
    """

    def __init__(
        self, url: str, *, user: str, token: Callable[[], str], ca_file: Path | None = None, timeout: float
    ) -> None:
        self._url = url.rstrip("/") + "/"
        self._calls = JenkinsCalls(self._url, user, token, ca_file, timeout)

    @property
    def url(self) -> str:
        """Where it is, ending in `/`."""
        return self._url

    async def info(self) -> ControllerInfo:
        """What it is."""
        return answers.controller_info(
            await self._calls.get("ask the controller what it is", "api/json", answers.INFO_TREE)
        )

    async def queue(self) -> Sequence[QueueItem]:
        """All waiting items that we may see."""
        answer = await self._calls.get("look at the queue", "queue/api/json", answers.QUEUE_TREE)
        return answers.read(answer, lambda data: [answers.queue_item(self._url, item) for item in data["items"]])

    async def computers(self) -> Sequence[Computer]:
        """All nodes, the built-in one included."""
        answer = await self._calls.get("list the nodes", "computer/api/json", answers.COMPUTERS_TREE)
        return answers.read(answer, lambda data: [answers.computer(each) for each in data["computer"]])

    async def create_node(self, name: str, *, description: str, labels: Sequence[str], remote_dir: str) -> None:
        """Make the node. After ControllerUnavailable it may be there, and a second try then raises NodeExists."""
        node = {
            "nodeDescription": description,
            "numExecutors": 1,
            "remoteFS": remote_dir,
            "labelString": " ".join(map(_quoted, labels)),
            "mode": "EXCLUSIVE",
            "type": jenkins.NODE_TYPE,
            # Never another one: what cloud agents use makes a node that can neither be deleted nor started with again.
            "retentionStrategy": {"stapler-class": "hudson.slaves.RetentionStrategy$Always"},
            "nodeProperties": {"stapler-class-bag": "true"},
            "launcher": {"stapler-class": jenkins.LAUNCHER_JNLP},
        }
        form = {"name": name, "type": jenkins.NODE_TYPE, "json": json.dumps(node)}
        try:
            await self._calls.post(f"create node {name}", "computer/doCreateItem", form)
        except Refused as refused:
            if "already exists" in str(refused):
                raise NodeExists(str(refused)) from refused
            raise

    async def node_secret(self, name: str) -> str:
        """What its agent proves itself with, out of the file that launched agents when Java ran in browsers."""
        path = f"{_node(name)}/jenkins-agent.jnlp"
        answer = await unless(HTTPStatus.NOT_FOUND, self._calls.get(f"read the secret of node {name}", path))
        if answer is None:
            raise NodeNotFound(f"could not read the secret of node {name}: there is no such node at {self._url}")
        return answers.secret(answer)

    async def set_offline(self, name: str, reason: str) -> None:
        """Mark it offline, or change the reason; `toggleOffline` would put it online again when repeated."""
        await self._of_node(name, "set node {} offline", "changeOfflineCause", {"offlineMessage": reason})

    async def set_online(self, name: str) -> None:
        """Take the mark back if there is one. Jenkins only toggles: of two who do so at once, one may set it again."""
        look = self._calls.get(f"look for node {name}", f"{_node(name)}/api/json", "temporarilyOffline")
        answer = await unless(HTTPStatus.NOT_FOUND, look)
        if answer and answers.read(answer, lambda data: data["temporarilyOffline"]):
            await self._of_node(name, "set node {} online", "toggleOffline")

    async def describe(self, name: str, description: str) -> None:
        """Change the node's description."""
        await self._of_node(name, "describe node {}", "submitDescription", {"description": description})

    async def delete_node(self, name: str) -> None:
        """Remove it. For a moment after it Jenkins may still answer for a busy one."""
        await self._of_node(name, "delete node {}", "doDelete")

    async def cancel_item(self, item_id: int) -> None:
        """Take it out of the queue. Jenkins answers 500 for one that left, and 422 if we may not."""
        doing = f"cancel queue item {item_id}"
        try:
            await unless(HTTPStatus.NOT_FOUND, self._calls.post(doing, f"queue/cancelItem?id={item_id}"))
        except ControllerUnavailable:
            if await self._waits(item_id):
                raise
        except Refused as refused:
            if refused.status == HTTPStatus.UNPROCESSABLE_ENTITY:
                raise ControllerRefused(f"{refused}; is the Job/Cancel permission missing?") from refused
            raise

    async def run(self, url: str) -> Run | None:
        """The run, by its path below the controller: its URL may be told with another host than ours."""
        path = f"{answers.path_below(self._url, url)}api/json"
        answer = await unless(HTTPStatus.NOT_FOUND, self._calls.get(f"look at {url}", path, answers.RUN_TREE))
        return None if answer is None else answers.read(answer, answers.run)

    async def stop_run(self, url: str) -> None:
        """Abort the run."""
        path = f"{answers.path_below(self._url, url)}stop"
        await unless(HTTPStatus.NOT_FOUND, self._calls.post(f"stop {url}", path))

    async def agent_jar(self) -> bytes:
        """The program that this controller's agents run."""
        answer = await self._calls.get("fetch agent.jar", "jnlpJars/agent.jar")
        if not answer.body.startswith(b"PK"):
            raise answer.unavailable("answered with something that is no jar")
        return answer.body

    async def probe(self, name: str) -> Sequence[Permission]:
        """Which of the permissions that we need we have."""
        return await probe(self, self._sees_jobs, name)

    async def close(self) -> None:
        """Let go of all connections."""
        self._calls.close()

    async def _of_node(self, name: str, doing: str, verb: str, form: dict[str, str] | None = None) -> None:
        """Send a node's form; nothing happens if the node is gone."""
        await unless(HTTPStatus.NOT_FOUND, self._calls.post(doing.format(name), f"{_node(name)}/{verb}", form))

    async def _waits(self, item_id: int) -> bool:
        look = self._calls.get(f"look at queue item {item_id}", f"queue/item/{item_id}/api/json", "id")
        answer = await unless(HTTPStatus.NOT_FOUND, look)
        return answer is not None and answers.read(answer, lambda data: not data["_class"].endswith("$LeftItem"))

    async def _sees_jobs(self) -> bool:
        answer = await self._calls.get("look for jobs", "api/json", answers.JOBS_TREE)
        return answers.read(answer, lambda data: bool(data["jobs"]))


def _node(name: str) -> str:
    return f"computer/{quote(name, safe='')}"


def _quoted(label: str) -> str:
    """Always in quotes: a node's `a b` becomes one label, not two, as soon as some job asks for it (Label.parse)."""
    return '"' + label.replace("\\", r"\\").replace('"', r"\"") + '"'
