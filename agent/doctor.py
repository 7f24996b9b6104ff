"""What is wrong with this machine, and the cure: the checks behind `sibling doctor`.

They change nothing that a running service holds; the network and the volume are made if missing, as a start would do.
"""

from __future__ import annotations

import fcntl
import grp
import shutil
import socket
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from agent import busybox, data_volume
from agent.agents.permissions import probe_name
from agent.build_store.database import newest_revision
from agent.engine import LABEL_ROLE
from agent.errors import AgentError, EngineUnavailable, InvalidSettings, root_cause
from agent.host import read_host
from agent.images.buildx import find_buildx
from agent.registries import Registries
from agent.threads import in_thread
from agent.tokens import TokenFile
from agent.toolkit import java

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.controller import Controller, Permission
    from agent.engine import Engine, EngineInfo
    from agent.settings import QueueSettings, Settings
    from agent.settings.registries import RegistrySettings

_SOCKET_TIMEOUT = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing looked at. `cure` is a command or a setting; empty if all is well, or if `detail` says it already."""

    name: str
    ok: bool
    detail: str
    cure: str = ""


async def examine(
    settings: Settings, engine_factory: Callable[[], Engine], controller: Controller | None = None
) -> list[Finding]:
    """Look at everything that the service needs; what cannot be looked at for want of another thing is left out."""
    findings = [_settings(settings), _tokens(settings.auth.token_file), _busybox(), _git(), _buildx(settings)]
    findings += await _registries(settings)
    findings.append(_socket(Path(settings.engine.host.removeprefix("unix://"))))
    if findings[-1].ok:
        engine = engine_factory()
        try:
            findings += await _examine_engine(engine, settings)
        finally:
            await engine.close()
    if controller is not None:
        findings += await _examine_controller(controller, settings)
    return findings


async def _examine_controller(controller: Controller, settings: Settings) -> list[Finding]:
    findings = [_java(settings.jenkins.java)]
    try:
        info = await controller.info()
        tried = await controller.probe(probe_name("doctor"))
    except AgentError as error:
        return [*findings, _wrong("jenkins", str(error))]
    finally:
        await controller.close()
    findings.append(_fine("jenkins", f"{info.version} at {controller.url}"))
    return [*findings, *map(_permission, tried)]


def _java(given: Path | None) -> Finding:
    try:
        return _fine("java", f"agents run on that of {java.find_java(given)}")
    except InvalidSettings as error:
        return _wrong("java", str(error))


def _permission(tried: Permission) -> Finding:
    name = f"permission {tried.name}"
    if tried.ok is False:
        return _wrong(name, tried.detail, f"Grant {tried.name} to jenkins.user; docs/jenkins.md has the list.")
    return _fine(name, tried.detail or "granted")


async def _examine_engine(engine: Engine, settings: Settings) -> list[Finding]:
    try:
        info = await engine.info()
    except EngineUnavailable as error:
        return [_wrong("engine", str(error), "See its log, `journalctl -u docker`; `systemctl restart docker`.")]
    except AgentError as error:
        return [_wrong("engine", str(error))]
    findings = [
        *_engine(info, settings.engine.runtime, settings.images.cgroup_parent),
        await _network(engine, settings.engine.network),
    ]
    try:
        volume = await data_volume.locate(engine, settings.data)
    except AgentError as error:
        return [*findings, _wrong("volume", str(error))]
    findings.append(_fine("volume", f"{volume.name}, seen and writable at {volume.dir}"))
    return [*findings, *_host(volume.dir, settings.queue), _store(volume.dir / "builds.db")]


def _settings(settings: Settings) -> Finding:
    return _fine("settings", f"all are allowed; the service listens on {settings.server.host}:{settings.server.port}")


def _tokens(path: Path | None) -> Finding:
    if path is None:
        return _fine("tokens", "no token file: only this machine can call, with the admin token in the data folder")
    try:
        count = len(TokenFile(path).list())
    except InvalidSettings as error:
        return _wrong("tokens", str(error))
    if count == 0:
        return _wrong("tokens", f"{path} holds none, so nobody can call.", "`sibling token create NAME --scope admin`")
    return _fine("tokens", f"{count} in {path}")


def _busybox() -> Finding:
    try:
        return _fine("busybox", f"{busybox.find_static_busybox()} is static")
    except InvalidSettings as error:
        return _wrong("busybox", str(error))


def _git() -> Finding:
    path = shutil.which("git")
    if path is None:
        return _wrong("git", "There is no git, so builds with a git source fail.", "`apt-get install git`")
    return _fine("git", path)


def _buildx(settings: Settings) -> Finding:
    program = find_buildx(settings.images.buildx)
    if program is None:
        cure = "`apt-get install docker-buildx` (Debian 13), or name the program in images.buildx."
        return _wrong("buildx", "There is no docker-buildx, so no images can be built.", cure)
    return _fine("buildx", str(program))


async def _registries(settings: Settings) -> list[Finding]:
    registries, findings = Registries(settings.registries), []
    for name, table in settings.registries.items():
        try:
            login = await registries.login(table.host)
        except InvalidSettings as error:
            findings.append(_wrong(f"registry {name}", str(error)))
            continue
        who = "without a login" if login is None else f"as {login.username}"
        fault = await in_thread(_registry_fault, table)
        if fault is None:
            findings.append(_fine(f"registry {name}", f"{table.host} answers; {who}"))
        else:
            cure = "See registries.NAME.ca_file and insecure; the engine needs its own, /etc/docker/certs.d."
            findings.append(_wrong(f"registry {name}", f"{table.host}: {fault}.", cure))
    return findings


def _registry_fault(table: RegistrySettings) -> str | None:
    """Why it does not answer to us, or None; any answer at /v2/ will do (OCI distribution, 'Endpoints', end-1)."""
    host = "registry-1.docker.io" if table.host == "docker.io" else table.host
    name, _, port = host.partition(":")
    try:
        if table.insecure:  # nothing that it says could be believed
            socket.create_connection((name, int(port or 443)), _SOCKET_TIMEOUT).close()
            return None
        with requests.Session() as session:
            session.trust_env = False  # or a .netrc would be asked for its login
            verify: bool | str = str(table.ca_file) if table.ca_file else True
            session.get(f"https://{host}/v2/", timeout=_SOCKET_TIMEOUT, verify=verify, allow_redirects=False)
    except (requests.RequestException, OSError) as error:
        return str(root_cause(error))
    return None


def _socket(path: Path) -> Finding:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_SOCKET_TIMEOUT)
            connection.connect(str(path))
    except FileNotFoundError:
        cure = f"`systemctl start docker`, or set engine.host; for a container, add `-v {path}:{path}`."
        return _wrong("socket", f"There is no {path}.", cure)
    except PermissionError:
        return _wrong("socket", f"This user may not use {path}.", _permission_cure(path))
    except OSError as error:
        return _wrong(
            "socket", f"No engine answers at {path}: {error}.", "`systemctl restart docker`, or set engine.host."
        )
    return _fine("socket", f"{path} lets us in")


def _permission_cure(path: Path) -> str:
    try:
        group = path.stat().st_gid
    except PermissionError:
        return f"Let this user into the folder {path.parent}."
    try:
        name = grp.getgrgid(group).gr_name
    except KeyError:  # in a container the host's groups have no names
        name = str(group)
    return f"Let this user into group {group}: `usermod -aG {name} USER`; for a container, add `--group-add {group}`."


def _engine(info: EngineInfo, runtime: str | None, cgroup_parent: str | None) -> Iterator[Finding]:
    yield _fine("engine", f"Docker {info.version}, API {info.api_version}, on {info.os}, {info.storage_driver}")
    if info.has_init:
        yield _fine("init", "docker-init is there")
    else:
        yield _wrong("init", "The engine has no docker-init, which builds run under.", "`apt-get install tini`")
    if info.cgroup_driver == "cgroupfs" or cgroup_parent is not None:
        yield _fine("limits", f"RUN steps of image builds are limited in {cgroup_parent or 'control groups of ours'}")
    else:
        detail = "The engine's cgroup driver is systemd, so nothing limits the RUN steps of image builds."
        yield _wrong(
            "limits", detail, "Make a slice with MemoryMax= and CPUQuota=, and name it in images.cgroup_parent."
        )
    if runtime is not None and runtime not in info.runtimes:
        detail = f"The engine knows no runtime {runtime}, only {', '.join(info.runtimes)}."
        yield _wrong("runtime", detail, "Set engine.runtime, or add it to the engine's /etc/docker/daemon.json.")


async def _network(engine: Engine, name: str) -> Finding:
    try:
        await engine.ensure_network(name, {LABEL_ROLE: "network"})
    except AgentError as error:
        return _wrong("network", str(error))
    return _fine("network", f"{name} keeps builds apart")


def _host(folder: Path, queue: QueueSettings) -> Iterator[Finding]:
    host = read_host(folder)
    for name, free, least in (
        ("memory", host.memory_available, queue.min_free_memory),
        ("disk", host.disk_free, queue.min_free_disk),
    ):
        detail = f"{free / 1024**2:,.0f} MiB free; builds start above {least / 1024**2:,.0f} MiB"
        yield (
            _fine(name, detail)
            if free >= least
            else _wrong(name, detail, f"Free some, or lower queue.min_free_{name}.")
        )


def _store(path: Path) -> Finding:
    if not path.exists():
        return _fine("store", f"{path} is made at the first start")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            (fault,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        fault = str(error)
    if fault != "ok":
        cure = "Look as the service's user; if the file is broken, stop the service and put a backup in its place."
        return _wrong("store", f"{path} cannot be read: {fault}.", cure)
    if revision > newest_revision():
        return _wrong("store", f"{path} was written by a newer Sibling.", "Install that version again, or a newer one.")
    return _fine(
        "store", f"{path} is whole; {'a service is running on it' if _is_held(path) else 'no service runs on it'}"
    )


def _is_held(path: Path) -> bool:
    """Whether a service has the store open, by its lock file (`database.Database`)."""
    try:
        with Path(f"{path}.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _fine(name: str, detail: str) -> Finding:
    return Finding(name=name, ok=True, detail=detail)


def _wrong(name: str, detail: str, cure: str = "") -> Finding:
    return Finding(name=name, ok=False, detail=detail, cure=cure)
