"""What a build is: the record that the store keeps of it. Everything here is frozen data."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.requests import ContainerRequest, HookRequest, ImageBuildRequest, ImagePushRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.requests import Request

JENKINS = "jenkins:queue"  # who asked for an agent; no token has such a name

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


class BuildState(StrEnum):
    """Where a build is on its way; it only ever moves down this list."""

    QUEUED = "queued"
    PREPARING = "preparing"
    CONNECTED = "connected"  # an agent alone: it waits for the controller to give it a build
    RUNNING = "running"
    FINISHED = "finished"


UNFINISHED = tuple(state for state in BuildState if state is not BuildState.FINISHED)


class Lane(StrEnum):
    """Where a build queues. What a build asks for from inside must not wait for the very slot that it holds itself."""

    BUILDS = "builds"
    NESTED = "nested"  # containers that a build asked for
    IMAGES = "images"
    HOOKS = "hooks"  # what image builds wait for while they hold a slot


class Result(StrEnum):
    """How a build ended, in Jenkins' own words (hudson.model.Result)."""

    SUCCESS = "SUCCESS"
    UNSTABLE = "UNSTABLE"
    FAILURE = "FAILURE"
    NOT_BUILT = "NOT_BUILT"
    ABORTED = "ABORTED"


class Reason(StrEnum):
    """Why a build did not succeed. `Build.message` says it in a sentence."""

    EXIT_CODE = "exit-code"
    OUT_OF_MEMORY = "out-of-memory"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    SOURCE = "source"
    IMAGE = "image"
    ENGINE = "engine"
    ARTIFACTS = "artifacts"
    POLICY = "policy"
    CONTROLLER = "controller"  # the controller refused, or took the node away
    CONNECTION = "connection"  # an agent did not reach the controller
    STEP = "step"  # of an image's build
    PUSH = "push"
    HOOK = "hook"  # that must succeed after a push
    JOB = "job"  # the job that ran on an agent did not succeed
    UNUSED = "unused"  # an agent that no build came to
    INTERNAL = "internal"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a build ended; `exit_code` is None if its command never ran to an end that we saw."""

    result: Result
    reason: Reason | None = None
    message: str | None = None
    exit_code: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A file that a build left: its path below the workspace, with `/`, and its size in bytes."""

    path: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A run of a job on the controller: its address there, its number, and its full name such as `team/app #12`."""

    url: str
    number: int
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRecord:
    """What became of an agent on the controller: when it was seen there, when a build came to it, and which."""

    connected_at: float | None = None
    begun_at: float | None = None
    job: Job | None = None
    session: str = ""  # of the controller (ControllerInfo.session) when that build was last seen on the agent


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageStep:
    """One step of an image's build: its name as BuildKit shows it, whether the cache had it, the seconds it took."""

    name: str
    cached: bool
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseImage:
    """An image that a build started from, and the digest that its name meant then; None if that was not told."""

    reference: str
    digest: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushed:
    """An image at a registry: its full reference, and the manifest's digest as the registry has it."""

    reference: str
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRecord:
    """What an image build made, or an image push sent. `size` is the bytes of its layers, unpacked."""

    id: str | None = None  # the image's own, of its configuration; None if nothing was kept
    digest: str | None = None  # of the manifest, once a registry has it
    size: int | None = None
    tags: tuple[str, ...] = ()  # full references; names among the images of whoever built it
    pushed: tuple[Pushed, ...] = ()
    bases: tuple[BaseImage, ...] = ()
    steps: tuple[ImageStep, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """The store's record of a build. Times are seconds since the epoch, phases durations in seconds."""

    id: str
    state: BuildState
    request: Request  # secrets masked; their values come from BuildStore.secrets alone
    created_by: str  # the token's name, `job:` and a job's full name, `hook:` and its name, or `JENKINS` for agents
    created_at: float
    attempt: int = 0  # how often it was claimed; with the state it fences off a claimer that was replaced
    owner: str | None = None  # the service that claimed it
    lease_until: float | None = None
    cancel_requested: bool = False
    started_at: float | None = None  # when its container was started
    finished_at: float | None = None
    outcome: Outcome | None = None
    phases: Mapping[str, float] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    image_id: str | None = None  # what the image's name meant when the build began
    agent: AgentRecord | None = None  # of agents alone
    parent: str | None = None  # the build that asked for this one from inside its container, and outlives it
    image: ImageRecord | None = None  # of image builds and pushes alone

    @property
    def lane(self) -> Lane:
        """Where it queues."""
        if isinstance(self.request, ImageBuildRequest | ImagePushRequest):
            return Lane.IMAGES
        if isinstance(self.request, HookRequest):
            return Lane.HOOKS
        return Lane.BUILDS if self.parent is None else Lane.NESTED

    @property
    def container(self) -> ContainerRequest:
        """The request of a build that has a container of its own."""
        if not isinstance(self.request, ContainerRequest):
            raise TypeError(f"build {self.id} has no container")
        return self.request


class _Ids:
    """The last id of this process, so that those of one millisecond are in order too."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns() // 1_000_000 << 80 | secrets.randbits(80))
            return self._last


_ids = _Ids()


def new_build_id() -> str:
    """A fresh id: 26 characters that sort in order of creation (the ULID layout: 48 bits of time, 80 random bits)."""
    number = _ids.next()
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
