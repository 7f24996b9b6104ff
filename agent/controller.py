"""The controller: what the core asks of whatever queues builds and has nodes, in verbs that any Jenkins answers.

Nothing here knows HTTP. `jenkins_controller` does it over Jenkins' REST API; contract, held by
tests/contracts/test_controller.py for the simulator and for a real controller:

- `queue` and `computers` are one request each, whatever their number.
- `create_node` is refused with `NodeExists` for a taken name. `delete_node`, `set_offline`, `set_online`, `describe`
  and `stop_run` on what is gone already do nothing; `node_secret` then raises `NodeNotFound`.
- `set_offline` may be repeated, and then changes the reason.
- No answer, an answer that is no answer of Jenkins', or one that takes too long is `ControllerUnavailable`; a wrong
  token or a missing permission is `ControllerRefused`. Every other refusal is a `ControllerError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class ControllerInfo:
    """What the controller says of itself. `session` changes with each of its starts (X-Jenkins-Session)."""

    version: str
    session: str
    url: str  # as its own configuration has it, or empty
    quieting_down: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueItem:
    """One waiting item. `label_expression` is a freestyle job's own; for others `why` tells (see `waiting`).

    `buildable` says that nothing but an executor is missing, `pending` that it has one and is about to begin.
    `since` is seconds since the epoch; `url` is the task's, absolute, or empty if the caller may not see it.
    """

    id: int
    name: str
    url: str
    why: str
    label_expression: str | None
    buildable: bool
    pending: bool
    since: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Executable:
    """What an executor runs: a run of a job, or a part of a pipeline's, whose `url` is that of the whole run."""

    url: str
    number: int
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Computer:
    """A node as the controller lists it. `labels` are all it answers to, its own name included.

    `offline` is true for whatever reason; `marked_offline` if someone set it so (temporarilyOffline), for `reason`.
    """

    name: str
    description: str
    labels: frozenset[str]
    offline: bool
    marked_offline: bool
    reason: str
    idle: bool
    executables: tuple[Executable, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run of a job. `result` is in Jenkins' words, or None while it has none.

    `node` is where a freestyle build ran; pipelines, which may run on many, do not tell.
    """

    url: str
    number: int
    name: str
    building: bool
    result: str | None
    node: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Permission:
    """One that the service needs, such as `Agent/Create`. `ok` is None if it cannot be told; `detail` says why not."""

    name: str
    ok: bool | None
    detail: str


class Controller(Protocol):
    """The verbs. All may raise ControllerUnavailable, ControllerRefused and ControllerError."""

    @property
    def url(self) -> str:
        """Where it is, ending in `/`."""

    async def info(self) -> ControllerInfo:
        """What it is; also the way to ask whether it is there and lets us in."""

    async def queue(self) -> Sequence[QueueItem]:
        """All waiting items that we may see."""

    async def computers(self) -> Sequence[Computer]:
        """All nodes, the built-in one included."""

    async def create_node(self, name: str, *, description: str, labels: Sequence[str], remote_dir: str) -> None:
        """Make an inbound node with one executor that takes only jobs which ask for one of its labels."""

    async def node_secret(self, name: str) -> str:
        """What its agent proves itself with. Raises NodeNotFound."""

    async def set_offline(self, name: str, reason: str) -> None:
        """Let the node take no more builds, because of `reason`; what runs there goes on, its agent stays connected."""

    async def set_online(self, name: str) -> None:
        """Take back `set_offline`."""

    async def describe(self, name: str, description: str) -> None:
        """Change the node's description."""

    async def delete_node(self, name: str) -> None:
        """Remove the node; a freestyle build on it fails at once, a pipeline's step only after minutes."""

    async def cancel_item(self, item_id: int) -> None:
        """Take an item out of the queue; does nothing if it left."""

    async def run(self, url: str) -> Run | None:
        """The run at an absolute URL of this controller, or None if it is gone."""

    async def stop_run(self, url: str) -> None:
        """Abort the run at that URL; does nothing if it has ended or is gone."""

    async def agent_jar(self) -> bytes:
        """The program that this controller's agents run."""

    async def probe(self, name: str) -> Sequence[Permission]:
        """Which permissions we have: tried, in a fixed order, with a node of that name that is made and deleted.

        A name for this alone; a node of that name is taken for what an earlier probe left.
        """

    async def close(self) -> None:
        """Let go of all connections."""
