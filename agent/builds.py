"""What a build is: the request as asked, and the record the store keeps of it.

Everything here is frozen data. A request is checked when it is made, so whatever holds a `BuildRequest` holds a valid
one.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    model_validator,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

# A command line reaches the kernel as one argument, and Linux takes 131,072 bytes in one (MAX_ARG_STRLEN, execve(2)).
MAX_COMMANDS_BYTES = 120_000
# Secrets travel through one socket buffer before the container starts; Linux gives a Unix socket about 200 kB.
MAX_SECRETS_BYTES = 64 * 1024
JENKINS = "jenkins:queue"  # who asked for an agent; no token has such a name
GIT_PASSWORD = "source.password"  # noqa: S105 - a key, not a password

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIZE = re.compile(r"(\d{1,18}(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


class BuildState(StrEnum):
    """Where a build is on its way; it only ever moves down this list."""

    QUEUED = "queued"
    PREPARING = "preparing"
    CONNECTED = "connected"  # an agent alone: it waits for the controller to give it a build
    RUNNING = "running"
    FINISHED = "finished"


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
    JOB = "job"  # the job that ran on an agent did not succeed
    UNUSED = "unused"  # an agent that no build came to
    INTERNAL = "internal"


def parse_size(value: Any) -> Any:
    """Bytes from an int or from text such as `512m`, `2g`, `1.5GiB`; units are powers of 1024, as Docker's are."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a size; write bytes, or a number with k, m, g or t, such as 512m")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " "))


def parse_duration(value: Any) -> Any:
    """Seconds from a number or from text such as `90s`, `10m`, `1h30m`."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{value!r} is not a duration; write seconds, or 90s, 10m, 1h30m")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not hold a NUL byte")
    return value


def _env_name(value: str) -> str:
    if not _ENV_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a variable name; use letters, digits and _, not starting with a digit")
    return value


def _secret_value(value: SecretStr) -> SecretStr:
    text = _no_nul(value.get_secret_value())
    if not text:
        raise ValueError("a secret must not be empty")
    return value


SizeText = BeforeValidator(parse_size, json_schema_input_type=int | str)
ByteSize = Annotated[int, Field(gt=0, le=2**53), SizeText]
Duration = Annotated[
    float,
    Field(gt=0, le=30 * 24 * 3600, allow_inf_nan=False),
    BeforeValidator(parse_duration, json_schema_input_type=float | str),
]
Text = Annotated[str, AfterValidator(_no_nul)]
EnvName = Annotated[str, Field(max_length=256), AfterValidator(_env_name)]
# Pydantic would call it write-only; but answers show it, masked.
Secret = Annotated[SecretStr, AfterValidator(_secret_value), WithJsonSchema({"type": "string", "format": "password"})]
Label = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_no_nul)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _no_credentials(url: str) -> str:
    if "@" in url.partition("://")[2].partition("/")[0] and not url.startswith("ssh://"):
        raise ValueError("a URL is shown to everybody; give username and password in their own fields")
    return url


class UploadedSource(_Frozen):
    """A source tree uploaded before with `PUT /v1/sources`."""

    type: Literal["uploaded"] = "uploaded"
    id: str = Field(pattern=r"^src-[0-9a-f]{32}$", description="The id that `PUT /v1/sources` answered.")


class GitSource(_Frozen):
    """A git repository fetched by the service into the workspace; the build never sees the password."""

    type: Literal["git"] = "git"
    url: Annotated[Text, AfterValidator(_no_credentials)] = Field(
        pattern=r"^(https?|ssh|git)://[^\s]+$", max_length=2048, description="https, ssh or git URL."
    )
    ref: Text = Field(
        default="HEAD",
        min_length=1,
        max_length=255,
        pattern=r"^[^\s-][^\s]*$",
        description="Branch, tag, full ref or commit id.",
    )
    username: Text | None = Field(default=None, max_length=256)
    password: Secret | None = Field(default=None, description="Password or access token; never stored in the clear.")


class Concurrency(_Frozen):
    """At most `limit` builds that name the same key run at once, whoever posted them."""

    key: Label
    limit: int = Field(default=1, ge=1, le=1000)


class ContainerRequest(_Frozen):
    """What any container of a build may be asked to be. Sizes are bytes or `512m`; durations are seconds or `10m`."""

    image: Text = Field(min_length=1, max_length=512, pattern=r"^[^\s-][^\s]*$", description="Image to run in.")
    env: dict[EnvName, Text] = Field(default_factory=dict, max_length=1000)
    user: Text | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$",
        max_length=128,
        description="User or uid, with an optional :group; the image's own if absent.",
    )
    timeout: Duration | None = Field(default=None, description="Seconds from the container's start to its stop.")
    cpus: float | None = Field(default=None, ge=0.01, le=1024, allow_inf_nan=False)
    # 6 MiB is the least that the engine accepts (Docker API, HostConfig.Memory).
    memory: Annotated[int, Field(ge=6 * 1024**2, le=2**53), SizeText] | None = None
    pids: int | None = Field(default=None, ge=1, le=4_000_000)
    shm_size: ByteSize | None = None
    pull: Literal["missing", "always", "never"] = "missing"
    labels: dict[Label, Annotated[Text, Field(max_length=1024)]] = Field(default_factory=dict, max_length=64)
    priority: int = Field(default=0, ge=-100, le=100, description="Higher runs first.")
    concurrency: Concurrency | None = None

    def secret_values(self) -> dict[str, str]:
        """Every secret of the request in the clear, by variable name."""
        return {}


class BuildRequest(ContainerRequest):
    """One build, as asked for over HTTP. Sizes are bytes or `512m`; durations are seconds or `10m`."""

    commands: list[Text] | None = Field(
        default=None, min_length=1, max_length=1000, description="Shell lines, run by one `sh -e` in order."
    )
    argv: list[Text] | None = Field(
        default=None, min_length=1, max_length=1000, description="A program and its arguments, run without a shell."
    )
    secrets: dict[EnvName, Secret] = Field(
        default_factory=dict,
        max_length=100,
        description="Variables whose values are masked in the log and never shown by `docker inspect` or this API.",
    )
    source: Annotated[UploadedSource | GitSource, Field(discriminator="type")] | None = None
    workdir: Text = Field(default=".", min_length=1, max_length=4096, description="Absolute, or below the workspace.")
    artifacts: list[Annotated[Text, Field(min_length=1, max_length=1024)]] = Field(
        default_factory=list, max_length=100, description="Globs below the workspace: `*`, `?`, `[...]`, `**`."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.commands is None) == (self.argv is None):
            raise ValueError("give either commands (shell lines) or argv (a program and its arguments)")
        if sum(len(line.encode()) + 1 for line in self.commands or self.argv or ()) > MAX_COMMANDS_BYTES:
            raise ValueError(f"commands are over {MAX_COMMANDS_BYTES} bytes; put a script into the source instead")
        if sum(len(value.encode()) for value in self.secret_values().values()) > MAX_SECRETS_BYTES:
            raise ValueError(f"secrets are over {MAX_SECRETS_BYTES} bytes in all")
        if both := self.env.keys() & self.secrets.keys():
            raise ValueError(f"{', '.join(sorted(both))}: named in env and in secrets")
        return self

    def secret_values(self) -> dict[str, str]:
        """Every secret of the request in the clear, by variable name; the git password under `GIT_PASSWORD`."""
        values = {name: value.get_secret_value() for name, value in self.secrets.items()}
        if isinstance(self.source, GitSource) and self.source.password is not None:
            values[GIT_PASSWORD] = self.source.password.get_secret_value()
        return values


class AgentRequest(ContainerRequest):
    """A container for one build of the controller's queue, as the provisioner asks; `timeout` is that build's."""

    node_labels: list[Text] = Field(min_length=1, description="The labels of its node on the controller.")
    template: Text | None = Field(default=None, description="The template that it is made from, if not from a label.")
    caches: dict[Text, Text] = Field(default_factory=dict, description="Named caches, and where they are mounted.")
    heap: ByteSize | None = Field(default=None, description="Largest Java heap of the agent itself.")
    refusal: Text | None = Field(default=None, description="Why it cannot be had, if its label already says so.")


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
class Build:
    """The store's record of a build. Times are seconds since the epoch, phases durations in seconds."""

    id: str
    state: BuildState
    request: BuildRequest | AgentRequest  # secrets masked; their values come from BuildStore.secrets alone
    created_by: str  # the token's name, or `JENKINS` for agents
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
