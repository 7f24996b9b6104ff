"""The engine: what the core asks of whatever runs containers, in verbs named after Docker's.

Nothing here knows a socket. `docker_engine` does it over Docker's; the tests' `MemoryEngine` does it from data.
Contract, held by tests/contracts/test_engine.py for every implementation:

- Order: `create`, `attach`, `start`, then read the output, `wait`, `remove`. `attach` before `start` misses no byte.
- `stop` and `remove` do not fail when the container is gone already. Any other verb on a missing one raises
  `ContainerNotFound`; a dead engine raises `EngineUnavailable`; every other refusal is an `EngineError`.
- `logs` gives all that the container wrote from its first byte, so that a reader who counted bytes per stream can skip
  what it has (an attach to a running container would lose or double output: moby/moby#29285).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agent.registries import Login

# Labels on every object that Sibling makes.
LABEL_SERVICE = "sibling.service"
LABEL_BUILD = "sibling.build"
LABEL_ROLE = "sibling.role"


def container_name(build_id: str) -> str:
    """The one name that a build's container has, and an agent's node: whoever comes after a crash finds it by that."""
    return f"sibling-{build_id}"


class Stream(IntEnum):
    """Who wrote a piece of log. 1 and 2 are the engine's own numbers (Docker API, 'Stream format')."""

    SIBLING = 0
    STDOUT = 1
    STDERR = 2


OutputSink = Callable[[Stream, bytes | memoryview], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """A part of a named volume, resolved inside it by the engine (volume Subpath, API 1.45). Never a host path."""

    volume: str
    subpath: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class MountPoint:
    """What a container has at `target`, in the engine's words: `type` is volume, bind, tmpfs, ...

    `source` is the volume's name or the host's path; empty for a tmpfs.
    """

    type: str
    source: str
    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerSpec:
    """All that a container is made of; `docker_engine.wire` turns it into the engine's own words."""

    image: str
    entrypoint: Sequence[str]  # overrides the image's; its CMD is never used
    env: Mapping[str, str]
    labels: Mapping[str, str]
    workdir: str
    user: str | None  # the image's own if None
    network: str
    mounts: Sequence[Mount]
    tmpfs: Mapping[str, str]  # target -> mount options
    cpus: float
    memory: int  # bytes; swap is not added to it
    pids: int
    shm_size: int  # bytes
    cap_add: Sequence[str]  # after all were dropped
    log_size: int  # bytes that the engine keeps for a reader that was away
    runtime: str | None = None  # the engine's default if None


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image on the engine: its id, the user it names, as written there, and the bytes of its files."""

    id: str
    user: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ExitStatus:
    """How a container ended. Times are seconds since the epoch, by the engine's clock."""

    exit_code: int
    oom_killed: bool
    started_at: float
    finished_at: float
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """A container as the engine lists it. `state` is the engine's word: created, running, exited, ..."""

    id: str
    name: str
    state: str
    labels: Mapping[str, str]
    created_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What the engine says of itself and of its host. `memory` is bytes; `warnings` are its own."""

    version: str
    api_version: str
    os: str
    cpus: int
    memory: int
    storage_driver: str
    has_init: bool
    cgroup_driver: str = "cgroupfs"  # or systemd
    runtimes: Sequence[str] = field(default_factory=tuple)
    warnings: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What a running container uses now: bytes of memory, its peak if the engine knows it, and CPU seconds so far."""

    memory: int
    memory_peak: int | None
    cpu_seconds: float
    pids: int


class OutputStream(Protocol):
    """A container's output. `pump` is called once; `close` may be called from anywhere, and ends a pump."""

    async def pump(self, write: OutputSink) -> None:
        """Read to the end, calling `write` in one other thread at a time with what came, as it came.

        The memory given to `write` is only good for the call. Raises EngineUnavailable if the stream broke in the
        middle of a frame or the connection failed, and whatever `write` raises.
        """

    def close(self) -> None:
        """End the stream now; a running `pump` returns."""


class Engine(Protocol):
    """The verbs. All may raise EngineUnavailable and EngineError; see the module for the rest of the contract."""

    async def info(self) -> EngineInfo:
        """What the engine is; also the way to ask whether it is there."""

    async def ensure_network(self, name: str, labels: Mapping[str, str]) -> None:
        """Make the builds' bridge if it is not there: containers on it cannot reach each other (icc off)."""

    async def ensure_volume(self, name: str, labels: Mapping[str, str]) -> str:
        """Make the volume if it is not there; returns its mount point on the engine's host."""

    async def image(self, reference: str) -> Image | None:
        """The image that the reference names on the engine, or None."""

    async def ensure_image(self, reference: str, archive: bytes) -> None:
        """Make an image of this name out of a tar of its files, unless the engine has one of that name."""

    async def pull(self, reference: str, progress: Callable[[str], None], login: Login | None = None) -> None:
        """Pull it, calling `progress` with a line now and then. Raises ImageUnavailable with the registry's words."""

    async def push(self, reference: str, progress: Callable[[str], None], login: Login | None = None) -> str:
        """Push the image of this tag; returns the digest of the manifest that the registry has. Raises PushFailed."""

    async def tag(self, image: str, reference: str) -> None:
        """Give an image one more name, which may have been another's. Raises ImageUnavailable if there is no such."""

    async def untag(self, reference: str) -> None:
        """Take a name from its image, and remove that if it was the last. Does nothing if there is none."""

    async def tags(self, folder: str) -> Sequence[str]:
        """All references on the engine right below this, a domain with or without the beginning of a path."""

    async def create(self, name: str, spec: ContainerSpec) -> str:
        """Create a container and return its id. Raises ContainerExists, ImageUnavailable."""

    async def read_file(self, container: str, path: str) -> bytes | None:
        """A small regular file of a container, started or not; None if there is none."""

    async def has_path(self, container: str, path: str) -> bool:
        """Whether a container has anything of that name, started or not."""

    async def waits_at(self, container: str, path: str) -> bool:
        """Whether whoever opens it in a container, started or not, waits: it is a pipe or a device, also by a link."""

    async def write_file(self, container: str, path: str, content: bytes, mode: int) -> None:
        """Write a file, owned by root, into a container's own file system, started or not."""

    async def make_link(self, container: str, path: str, target: str) -> None:
        """Make a symbolic link in a container's own file system, started or not; missing parents are made."""

    async def attach(self, container: str, stdin: bytes) -> OutputStream:
        """Attach before the start; `stdin`, at most 200 kB, is all that it will ever read there, even if we die."""

    async def logs(self, container: str, *, follow: bool) -> OutputStream:
        """All that it wrote so far, from the first byte; with `follow`, then what it writes until it ends."""

    async def start(self, container: str) -> None:
        """Start it. Raises EngineError with the runtime's words if its command cannot be executed."""

    async def wait(self, container: str) -> ExitStatus:
        """Wait for its end, however long that takes."""

    async def limit(self, container: str, *, cpus: float, memory: int) -> None:
        """Give a container other limits while it runs; `memory` is bytes."""

    async def stop(self, container: str, grace: float) -> None:
        """TERM, then KILL after `grace` seconds; returns when it has ended."""

    async def remove(self, container: str) -> None:
        """Kill it if it runs, and remove it with its anonymous volumes."""

    async def container(self, name: str) -> Container | None:
        """The container of that name or id, or None."""

    async def mounts(self, container: str) -> Sequence[MountPoint]:
        """All that is mounted in a container, its image's volumes included."""

    async def list(self, labels: Mapping[str, str]) -> Sequence[Container]:
        """All containers with these labels, running or not."""

    async def stats(self, container: str) -> Usage:
        """What it uses now."""

    async def close(self) -> None:
        """Let go of all connections."""
