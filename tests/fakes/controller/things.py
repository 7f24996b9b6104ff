"""What a controller holds: nodes, jobs, builds, queue items. Data, and what follows from it alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, Protocol
from urllib.parse import quote

from .labels import Label, label_of, words

_NOTE = re.compile(rb"\x1b\[8mha:.*?\x1b\[0m")


@dataclass(frozen=True)
class Step:
    """A step of a job: a shell script, or with `file` the text to write there."""

    text: str
    file: str = ""


@dataclass(frozen=True)
class StepRun:
    """A step as it is given to an agent. A durable one goes on while the connection is down; without a step only the
    workspace is made."""

    id: str
    workspace: str
    durable: bool
    step: Step | None
    env: dict[str, str]


class Agent(Protocol):
    """The far end of a node. Calls must not block: they are made under the simulator's lock."""

    def begin(self, run: StepRun) -> None: ...

    def resume(self, run_id: str, offset: int) -> None:
        """Go on reporting a step of which so many bytes of output have been seen."""

    def abort(self, run_id: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Cause:
    """Why a node is offline. `marked_by` is the user who set it so."""

    reason: str
    at: float
    kind: str = "hudson.slaves.OfflineCause$ChannelTermination"
    marked_by: str | None = None


@dataclass
class Node:
    name: str
    description: str | None = ""  # None if it was never given
    remote_fs: str = ""
    executors: int = 1
    exclusive: bool = True
    label_text: str = ""
    web_socket: bool = False
    retention: str = '<retentionStrategy class="hudson.slaves.RetentionStrategy$Always"/>'
    built_in: bool = False
    ghost: bool = False  # a node without a computer, after a retention strategy that must not be there
    removed: bool = False
    agent: Agent | None = field(default=None, repr=False)
    held: set[str] = field(default_factory=set)  # durable steps that the agent had when it connected
    mark: Cause | None = None
    lost: Cause | None = None
    running: list[Build] = field(default_factory=list, repr=False)
    log: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def labels(self) -> frozenset[str]:
        return frozenset({self.name, *words(self.label_text)})

    @property
    def connected(self) -> bool:
        return self.built_in or self.agent is not None

    @property
    def offline(self) -> bool:
        return not self.connected or self.mark is not None

    @property
    def cause(self) -> Cause | None:
        return self.mark or (None if self.connected else self.lost)

    @property
    def idle_executors(self) -> int:
        return 0 if self.offline else max(0, self.executors - len(self.running))

    def takes(self, label: Label | None) -> bool:
        return label.matches(self.labels) if label else not self.exclusive


Kind = Literal["freestyle", "pipeline", "folder"]


@dataclass
class Job:
    """`name` is the full one, with `/` between folders. A pipeline has one node block, which runs its steps."""

    name: str
    kind: Kind
    label_text: str | None = None
    steps: list[Step] = field(default_factory=list)
    config: str = field(default="", repr=False)
    description: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    concurrent: bool = False
    disabled: bool = False
    builds: dict[int, Build] = field(default_factory=dict, repr=False)
    next_number: int = 1

    @property
    def short_name(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def path(self) -> str:
        return "job/" + "/job/".join(quote(part, safe="") for part in self.name.split("/")) + "/"

    @property
    def label(self) -> Label | None:
        return label_of(self.label_text) if self.label_text else None

    @property
    def newest_first(self) -> list[Build]:
        return [self.builds[number] for number in sorted(self.builds, reverse=True)]


@dataclass
class Build:
    """`node` is where it runs or ran, `on` the node whose executor it holds now. Times are seconds since the epoch:
    when it was asked for, when it got an executor of a node, when it ended."""

    job: Job
    number: int
    queue_id: int
    causes: list[str]
    parameters: dict[str, str]
    queued_at: float
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    result: str | None = None
    node: str | None = None
    on: Node | None = field(default=None, repr=False)
    position: int = 0
    run: StepRun | None = field(default=None, repr=False)  # the step under way
    received: int = 0  # bytes of its output
    aborted_by: str | None = None
    description: str | None = None
    log: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def building(self) -> bool:
        return self.ended_at is None

    @property
    def path(self) -> str:
        return f"{self.job.path}{self.number}/"

    @property
    def name(self) -> str:
        return f"{self.job.name} #{self.number}".replace("/", " » ")

    @property
    def console(self) -> str:
        """The log without the notes that Jenkins hides in it."""
        return _NOTE.sub(b"", bytes(self.log)).decode(errors="replace")

    def write(self, text: str) -> None:
        self.log += text.encode()


@dataclass
class Item:
    """In the queue: a job that waits, or with `build` the part of a pipeline's build that waits for a node."""

    id: int
    job: Job
    label: Label | None
    since: float
    causes: list[str]
    parameters: dict[str, str]
    build: Build | None = None
    resumes: bool = False  # after a restart: on that very node, and in spite of quieting down
    wait_until: float = 0.0
    state: Literal["waiting", "blocked", "buildable", "left"] = "waiting"
    buildable_since: float = 0.0
    told: bool = False  # its build's log says that it waits
    cancelled: bool = False
    left_at: float = 0.0
    executable: Build | None = None

    @property
    def is_part(self) -> bool:
        return self.build is not None
