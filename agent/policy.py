"""Policy: what a build may have. Pure: the request, the settings and the host's size in; a spec, or Rejected, out.

Everything a container of ours gets is decided here; the engine adapter only translates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent import build_sockets, references, toolkit
from agent.engine import LABEL_BUILD, LABEL_ROLE, LABEL_SERVICE, ContainerSpec, Mount
from agent.errors import Rejected
from agent.requests import AgentRequest, BuildRequest, HookRequest

if TYPE_CHECKING:
    from agent.builds import Build
    from agent.requests import ContainerRequest, Request
    from agent.settings import BuildSettings
    from agent.settings.images import ImageSettings

# What apt, dpkg, apk, dnf and pip need to install as root, and no more: no NET_RAW, MKNOD, SYS_CHROOT or AUDIT_WRITE.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETUID")
ROLE_BUILD = "build"
ROLE_AGENT = "agent"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one build gets: CPUs, bytes, processes, bytes of /dev/shm, seconds."""

    cpus: float
    memory: int
    pids: int
    shm_size: int
    timeout: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where builds of this service run: its id, its volume and toolkit, the builds' network, the host's size."""

    service_id: str
    volume: str
    volume_dir: str  # where the engine's host has the volume
    toolkit: str
    network: str
    runtime: str | None
    cpus: int
    memory: int
    agent_network: str | None = None  # for agents, if it is another


def limits(request: ContainerRequest, settings: BuildSettings, place: Place) -> Limits:
    """The build's limits: what it asks for, or the defaults cut to the host's size. Raises Rejected over a maximum.

    An agent's timeout is by default the longest that there is: jobs have limits of their own on the controller.
    """
    most_cpus = min(settings.max_cpus, place.cpus)
    most_memory = min(settings.max_memory, place.memory)
    timeout = settings.max_timeout if isinstance(request, AgentRequest) else settings.timeout
    return Limits(
        cpus=_limit("cpus", request.cpus, min(settings.cpus, most_cpus), most_cpus),
        memory=int(_limit("memory", request.memory, min(settings.memory, most_memory), most_memory)),
        pids=int(_limit("pids", request.pids, settings.pids, settings.max_pids)),
        shm_size=int(_limit("shm_size", request.shm_size, settings.shm_size, settings.max_shm_size)),
        timeout=_limit("timeout", request.timeout, timeout, settings.max_timeout),
    )


def image(request: ContainerRequest, settings: BuildSettings) -> str:
    """The image's full reference. Raises InvalidRequest if it is none, Rejected if no pattern allows it."""
    reference = references.parse(request.image)
    if isinstance(request, HookRequest):
        return str(reference)  # the settings name it: `allowed_images` is about what callers may name
    if reference.domain == references.PRIVATE and isinstance(request, BuildRequest):
        return str(reference)  # of whoever asks; that was seen to when the build was admitted
    allowed_images = () if reference.domain == references.PRIVATE else settings.allowed_images
    if not any(references.matches(reference, pattern) for pattern in allowed_images):
        allowed = ", ".join(settings.allowed_images) or "none at all"
        raise Rejected("builds.allowed_images", f"image {reference} is not allowed here; allowed: {allowed}")
    return str(reference)


def container_spec(build: Build, settings: BuildSettings, place: Place) -> ContainerSpec:
    """All that a build's container is made of. Raises InvalidRequest and Rejected."""
    return _spec(build, settings, place, role=ROLE_BUILD, toolkit_path=place.toolkit, network=place.network)


def agent_spec(build: Build, settings: BuildSettings, place: Place, toolkit_path: str) -> ContainerSpec:
    """All that an agent's container is made of, on a toolkit that has Java. Raises InvalidRequest and Rejected."""
    request = build.request
    if isinstance(request, AgentRequest) and request.refusal is not None:
        raise Rejected("label", request.refusal)
    network = place.agent_network or place.network
    return _spec(build, settings, place, role=ROLE_AGENT, toolkit_path=toolkit_path, network=network)


def _spec(
    build: Build, settings: BuildSettings, place: Place, *, role: str, toolkit_path: str, network: str
) -> ContainerSpec:
    request = build.container
    allowed = limits(request, settings, place)
    return ContainerSpec(
        image=image(request, settings),
        entrypoint=toolkit.ENTRYPOINT,
        # docker-init then signals the whole process group, so that a stop reaches what a shell started (tini's README).
        env={"CI": "true", "SIBLING_BUILD_ID": build.id, **request.env, "TINI_KILL_PROCESS_GROUP": "1"},
        labels={LABEL_SERVICE: place.service_id, LABEL_BUILD: build.id, LABEL_ROLE: role},
        workdir=toolkit.WORKSPACE,
        user=request.user,
        network=network,
        mounts=(
            Mount(volume=place.volume, subpath=f"workspaces/{build.id}", target=toolkit.WORKSPACE),
            Mount(volume=place.volume, subpath=toolkit_path, target=toolkit.TARGET, read_only=True),
            Mount(
                volume=place.volume,
                subpath=f"{build_sockets.FOLDER}/{build.id}",
                target=build_sockets.TARGET,
                read_only=True,
            ),
            *_caches(request, place),
        ),
        tmpfs={"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={settings.tmp_size}"},  # noqa: S108 - the container's own
        cpus=allowed.cpus,
        memory=allowed.memory,
        pids=allowed.pids,
        shm_size=allowed.shm_size,
        cap_add=CAPABILITIES,
        log_size=settings.max_log,
        runtime=place.runtime,
    )


def image_limits(request: Request, settings: ImageSettings, place: Place) -> Limits:
    """The limits of an image build's RUN steps, and its timeout. Raises Rejected over a maximum."""
    most_cpus, most_memory = min(settings.max_cpus, place.cpus), min(settings.max_memory, place.memory)
    return Limits(
        cpus=_limit("cpus", request.cpus, min(settings.cpus, most_cpus), most_cpus, section="images"),
        memory=int(_limit("memory", request.memory, min(settings.memory, most_memory), most_memory, section="images")),
        pids=0,
        shm_size=0,
        timeout=_limit("timeout", request.timeout, settings.timeout, settings.max_timeout, section="images"),
    )


def _caches(request: ContainerRequest, place: Place) -> list[Mount]:
    named = request.caches if isinstance(request, AgentRequest) else {}
    return [Mount(volume=place.volume, subpath=f"caches/{name}", target=target) for name, target in named.items()]


def _limit(name: str, asked: float | None, default: float, most: float, section: str = "builds") -> float:
    if asked is not None and asked > most:
        raise Rejected(f"{section}.max_{name}", f"{name} {asked:g} is over the {most:g} that a build may have here")
    return default if asked is None else asked
