"""Docker's own words for ours: the body that a container is created with, and what the engine's answers mean. Pure.

Serves `docker_engine`. Everything is as the Docker Engine API 1.45 has it.
"""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.engine import Container, ContainerSpec, EngineInfo, ExitStatus, Image, Mount, MountPoint, Usage
from agent.errors import EngineError, ImageUnavailable, PushFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.registries import Login

Json = dict[str, Any]

API_VERSION = "1.45"  # Docker Engine 26, the first with volume subpaths
ICC = "com.docker.network.bridge.enable_icc"
_LINK = 1 << 27  # Go, io/fs, FileMode, as the next: a device, pipe, socket, character device, other
_WAITS = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19
_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time: how the engine writes "not yet"

# Builds are the first to go when the host itself runs out of memory, before the engine and the service.
_OOM_SCORE = 500
# The `local` driver adds 27 bytes to each line it keeps, and drops everything when its one file is full.
_LOG_OVERHEAD = 28
_MAX_FILE = 1024**2
MAX_ARCHIVE = _MAX_FILE + 2 * tarfile.RECORDSIZE
_LAYER_DONE = {"Pull complete", "Already exists", "Pushed", "Layer already exists"}
_QUERY = re.compile(r"\?[^\s\"]*")  # of a registry's URL: it may hold the state of an upload, signed
# What registries say, through the engine, to whoever may not push; anything else may be over at the next try.
_DENIALS = (
    "does not exist locally",
    "denied",
    "unauthorized",
    "authentication required",
    "no basic auth",
    "insufficient_scope",
    "forbidden",
)


def create_body(spec: ContainerSpec) -> Json:
    """The body of `POST /containers/create`.

    The log driver is `local`, since `json-file` replaces what is not UTF-8. Of lines of 28 bytes and more it keeps
    `log_size`, of shorter ones less. Standard input is open for one client, which sends all of it before the start.
    """
    body: Json = {
        "Image": spec.image,
        "Entrypoint": list(spec.entrypoint),
        "Cmd": [],
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "Labels": dict(spec.labels),
        "WorkingDir": spec.workdir,
        "Tty": False,
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_config(spec),
    }
    if spec.user is not None:
        body["User"] = spec.user
    return body


def _host_config(spec: ContainerSpec) -> Json:
    config: Json = {
        "NetworkMode": spec.network,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Init": True,
        "CapDrop": ["ALL"],
        "CapAdd": list(spec.cap_add),
        "SecurityOpt": ["no-new-privileges"],
        "Mounts": [_mount(mount) for mount in spec.mounts],
        "Tmpfs": dict(spec.tmpfs),
        "NanoCpus": round(spec.cpus * 1_000_000_000),
        "Memory": spec.memory,
        "MemorySwap": spec.memory,
        "PidsLimit": spec.pids,
        "ShmSize": spec.shm_size,
        "OomScoreAdj": _OOM_SCORE,
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {
            "Type": "local",
            "Config": {"max-size": str(_LOG_OVERHEAD * spec.log_size), "max-file": "1", "compress": "false"},
        },
    }
    if spec.runtime is not None:
        config["Runtime"] = spec.runtime
    return config


def _mount(mount: Mount) -> Json:
    return {
        "Type": "volume",
        "Source": mount.volume,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        "VolumeOptions": {"NoCopy": True, "Subpath": mount.subpath},
    }


class Refused(EngineError):
    """The engine answered with an HTTP error. `words` are its own; what the status means is the verb's to say."""

    def __init__(self, doing: str, status: int, words: str) -> None:
        super().__init__(f"could not {doing}: {words}")
        self.status = status
        self.words = words


def refusal(doing: str, status: int, body: bytes) -> Refused:
    """Of an error's answer: JSON with a message, or from attach bare text."""
    try:
        words = json.loads(body)["message"]
    except (ValueError, TypeError, KeyError):
        words = body.decode(errors="replace").strip()
    return Refused(doing, status, words or f"the engine answered {status} without a word")


def epoch(timestamp: str) -> float:
    """Seconds since the epoch of an RFC 3339 time as Go writes it, with up to nine digits after the point."""
    whole, _, fraction = timestamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction[:6]}" if fraction else 0)


def exit_status(doing: str, state: Json) -> ExitStatus:
    """How a container ended, of the `State` that inspect gives. Raises EngineError if it was never started."""
    if state["StartedAt"] == _NEVER:
        raise EngineError(f"could not {doing}: it was never started. {state['Error']}".rstrip())
    return ExitStatus(
        exit_code=state["ExitCode"],
        oom_killed=state["OOMKilled"],
        started_at=epoch(state["StartedAt"]),
        finished_at=epoch(state["FinishedAt"]),
        error=state["Error"],
    )


def inspected_container(answer: Json) -> Container:
    """Of `GET /containers/{id}/json`."""
    return Container(
        id=answer["Id"],
        name=answer["Name"].removeprefix("/"),
        state=answer["State"]["Status"],
        labels=answer["Config"]["Labels"] or {},
        created_at=epoch(answer["Created"]),
    )


def mount_point(mount: Json) -> MountPoint:
    """Of an entry of `Mounts` in `GET /containers/{id}/json`."""
    source = mount["Name"] if mount["Type"] == "volume" else mount["Source"]
    return MountPoint(type=mount["Type"], source=source, target=mount["Destination"])


def listed_container(entry: Json) -> Container:
    """Of an entry of `GET /containers/json`."""
    return Container(
        id=entry["Id"],
        name=entry["Names"][0].removeprefix("/"),
        state=entry["State"],
        labels=entry["Labels"] or {},
        created_at=entry["Created"],
    )


def check_api(version: Json) -> None:
    """Raise EngineError if `GET /version` tells of an engine that is too old for us."""
    if _numbers(version["ApiVersion"]) < _numbers(API_VERSION):
        raise EngineError(
            f"the engine is Docker {version['Version']} with API {version['ApiVersion']}, and Sibling needs API "
            f"{API_VERSION}; update it to Docker Engine 26 or newer"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def engine_info(info: Json, version: Json) -> EngineInfo:
    """Of `GET /info` and `GET /version`."""
    return EngineInfo(
        version=version["Version"],
        api_version=version["ApiVersion"],
        os=info["OperatingSystem"],
        cpus=info["NCPU"],
        memory=info["MemTotal"],
        storage_driver=info["Driver"],
        has_init=info["InitCommit"]["ID"] != "N/A",  # what the engine puts there if docker-init does not run
        cgroup_driver=info["CgroupDriver"],
        runtimes=tuple(sorted(info["Runtimes"])),
        warnings=tuple(info["Warnings"] or ()),
    )


def usage(stats: Json) -> Usage:
    """Of `GET /containers/{id}/stats`; all zero when the container does not run. Page cache that can go is left out."""
    memory = stats["memory_stats"]
    detail: Mapping[str, int] = memory.get("stats") or {}
    cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))  # cgroup v1, v2
    return Usage(
        memory=max(0, memory.get("usage", 0) - cache),
        memory_peak=memory.get("max_usage"),  # cgroup v1 alone
        cpu_seconds=stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1_000_000_000,
        pids=stats["pids_stats"].get("current", 0),
    )


def file_archive(path: str, content: bytes, mode: int) -> bytes:
    """The body of `PUT /containers/{id}/archive` at `/` for one file of root's."""
    member = tarfile.TarInfo(path.lstrip("/"))
    member.size, member.mode = len(content), mode
    return _archive(member, content)


def link_archive(path: str, target: str) -> bytes:
    """The same for a symbolic link."""
    member = tarfile.TarInfo(path.lstrip("/"))
    member.type, member.linkname, member.mode = tarfile.SYMTYPE, target, 0o777
    return _archive(member, b"")


def _archive(member: tarfile.TarInfo, content: bytes) -> bytes:
    member.mtime = int(time.time())
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def archived_file(doing: str, archive: bytes) -> bytes | None:
    """The content in the first MAX_ARCHIVE bytes of `GET /containers/{id}/archive`; None if it is no regular file.

    Raises EngineError if the file has more than 1 MiB.
    """
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.next()
        if member is None or not member.isreg():
            return None
        if member.size > _MAX_FILE:
            raise EngineError(f"could not {doing}: it has {member.size} bytes, and {_MAX_FILE} is the most")
        content = tar.extractfile(member)
        return None if content is None else content.read()


@dataclass(frozen=True, slots=True)
class PathStat:
    """What is at a path in a container: whether who opens it waits, and where it leads if it is a link."""

    waits: bool
    target: str | None


def path_stat(header: str) -> PathStat:
    """From X-Docker-Container-Path-Stat, whose mode is Go's os.FileMode."""
    stat = json.loads(base64.b64decode(header))
    return PathStat(bool(stat["mode"] & _WAITS), stat["linkTarget"] if stat["mode"] & _LINK else None)


def update_body(cpus: float, memory: int) -> bytes:
    """The body of `POST /containers/{id}/update`; swap is not added to the memory."""
    return json.dumps({"NanoCpus": round(cpus * 1e9), "Memory": memory, "MemorySwap": memory}).encode()


def image(answer: Json) -> Image:
    """An image as `GET /images/{name}/json` tells of it."""
    return Image(id=answer["Id"], user=answer["Config"].get("User", ""), size=answer.get("Size", 0))


def registry_auth(login: Login | None) -> dict[str, str]:
    """The header that carries a login; an empty one for none, since a push without that header is a bad request."""
    words: Json = {}
    if login is not None:
        named = {"username": login.username, "password": login.password}
        words = {"identitytoken": login.password} if login.username == "<token>" else named
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(words).encode()).decode()}


class PullProgress:
    """Adds up what the engine tells of an image's layers while it pulls them."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._done: dict[str, bool] = {}
        self._bytes: dict[str, tuple[int, int]] = {}

    def take(self, event: Json) -> None:
        """Note one line of the answer to `POST /images/create`. Raises ImageUnavailable with the registry's words."""
        if "error" in event:
            raise ImageUnavailable(f"could not pull image {self._reference}: {event['error']}")
        layer, status = event.get("id"), event.get("status", "")
        if layer is None or status.startswith("Pulling from"):
            return
        self._done[layer] = status in _LAYER_DONE
        detail = event.get("progressDetail") or {}
        if status == "Downloading" and "total" in detail:
            self._bytes[layer] = (detail["current"], detail["total"])
        elif status == "Download complete" and layer in self._bytes:
            self._bytes[layer] = (self._bytes[layer][1],) * 2

    def __str__(self) -> str:
        loaded = sum(part for part, _ in self._bytes.values()) / 1e6
        total = sum(whole for _, whole in self._bytes.values()) / 1e6
        layers = f"{sum(self._done.values())} of {len(self._done)} layers"
        return f"pulling {self._reference}: {layers}, {loaded:.1f} of {total:.1f} MB"


class PushProgress:
    """The same while it pushes; and the digest at the end."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._layers: dict[str, bool] = {}
        self._digest: str | None = None

    def take(self, event: Json) -> None:
        """Note one line of the answer to `POST /images/{name}/push`. Raises PushFailed with the registry's words."""
        if "error" in event:
            words = _QUERY.sub("", str(event["error"]))
            denied = any(denial in words.lower() for denial in _DENIALS)
            raise PushFailed(f"could not push image {self._reference}: {words}", denied=denied)
        self._digest = (event.get("aux") or {}).get("Digest", self._digest)
        if "id" in event and "progressDetail" in event:
            self._layers[event["id"]] = event.get("status") in _LAYER_DONE

    def digest(self) -> str:
        """The digest that the registry has it by. Raises PushFailed if the engine ended without telling."""
        if self._digest is None:
            raise PushFailed(f"could not push image {self._reference}: the engine told no digest", denied=False)
        return self._digest

    def __str__(self) -> str:
        return f"pushing {self._reference}: {sum(self._layers.values())} of {len(self._layers)} layers"
