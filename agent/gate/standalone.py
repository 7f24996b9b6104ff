"""A gate without the service: `sibling gate`, for people who only want a socket that is safe to hand out."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from agent.errors import EngineError, InvalidSettings
from agent.files import tree
from agent.gate import disk
from agent.gate.builder import Builder
from agent.gate.gate import Gate
from agent.gate.journal import Journal
from agent.gate.own_builder import BuilderPolicy, OwnBuilder
from agent.gate.policy import GatePolicy, Workspace
from agent.gate.upstream import Upstream
from agent.threads import in_thread
from agent.unix_socket import listen

if TYPE_CHECKING:
    from collections.abc import Callable

_BUILD = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_RETRY = 30.0  # seconds
_MODE = r"0?[0-7]{3}"


class _File(GatePolicy):
    """A policy file: TOML. `workspace` is `IN-BUILD-PATH:HOST-PATH` or `IN-BUILD-PATH:VOLUME`, or there is none."""

    workspace: str | None = None
    builder: BuilderPolicy | None = None
    socket_mode: str = Field("0600", pattern=_MODE)


async def serve(
    policy_file: Path, socket: Path, build: str, engine: str, note: Callable[[str], None], ready: Callable[[], None]
) -> None:
    """Serve until TERM or INT, then remove what was made. Raises InvalidSettings, EngineError."""
    if not _BUILD.fullmatch(build):
        raise InvalidSettings(f"--build {build!r}: up to 63 lower-case letters, digits or `-`, not at an end")
    upstream = Upstream.at(engine)
    policy = await _of_host(_read(policy_file), upstream)
    try:
        journal = Journal(socket.with_name(f"{socket.name}.journal"))
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"the journal beside {socket} cannot be used: {error}") from error
    gate = Gate(
        build=build,
        policy=policy,
        upstream=upstream,
        journal=journal,
        # The engine finds it by its path at each start of a container; the folder is its owner's alone.
        socket={"Type": "bind", "Source": str(await in_thread(Path(socket).resolve))},
        refused=lambda refusal, is_told: note(str(refusal)) if is_told else None,
    )
    builder_folder = await in_thread(Path(socket).with_name(f"{socket.name}.builder").absolute)
    own = None
    if policy.builder is not None:
        own = OwnBuilder(gate=gate, policy=policy.builder, folder=builder_folder, note=note)
        gate.builder = Builder(Upstream(own.connect))
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await gate.clear()
    try:
        if policy.workspace is not None:
            gate.workspace, gate.folder = await _workspace(gate, policy.workspace)
        try:
            await gate.open(await in_thread(listen, socket, int(policy.socket_mode, 8)))
        except OSError as error:
            raise InvalidSettings(f"the socket {socket} cannot be made: {error.strerror}") from error
        ready()
        watching = asyncio.create_task(_watch_disk(gate, own, note))
        await ended.wait()
        watching.cancel()
    finally:
        await gate.close()
        await in_thread(socket.unlink, missing_ok=True)
        await in_thread(tree.remove, builder_folder)


async def _watch_disk(gate: Gate, builder: OwnBuilder | None, note: Callable[[str], None]) -> None:
    async def look() -> None:
        if gate.journal.count("container") + gate.journal.count("volume") + gate.journal.count("builder"):
            volumes = await disk.of_volumes(gate.upstream)
            await disk.judge(gate, volumes)
            if builder is not None:
                await builder.judge(volumes)

    while True:
        try:
            await disk.turn(look)
        except EngineError as error:
            note(f"what the build has on the disk cannot be told: {error}")
            await asyncio.sleep(_RETRY)


def _read(file: Path) -> _File:
    try:
        return _File.model_validate(tomllib.loads(file.read_text()))
    except OSError as error:
        raise InvalidSettings(f"the policy {file} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"the policy {file} is no TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidSettings(f"the policy {file}: {where}: {first['msg']}") from error


async def _of_host(policy: _File, upstream: Upstream) -> _File:
    """The same with no more CPUs than the host has, which the engine would refuse. Raises EngineError."""
    there = (await upstream.ask("GET", "/info")).done().json()["NCPU"]
    limits, builder = policy.limits, policy.builder
    limits = limits.model_copy(update={"cpus": min(limits.cpus, there)})
    builder = builder and builder.model_copy(update={"cpus": min(builder.cpus, there)})
    return policy.model_copy(update={"limits": limits, "builder": builder})


async def _workspace(gate: Gate, text: str) -> tuple[Workspace, Path | None]:
    """The workspace, as a volume in either case: only in a volume does the engine itself keep to what is below it."""
    inside, _, where = text.partition(":")
    if where.startswith("/"):
        name = await gate.bind_workspace(await in_thread(_folder, where))
        folder: Path | None = Path(where)
    else:
        found = await gate.upstream.ask("GET", f"/volumes/{where}")
        if not found.ok:
            raise InvalidSettings(f"workspace: there is no volume {where!r}: {found.message()}")
        name = where
        folder = await in_thread(_seen, Path(found.json()["Mountpoint"]))
    try:
        return Workspace(path=inside, volume=name), folder
    except ValidationError as error:
        raise InvalidSettings(f"workspace: {error.errors()[0]['msg']}") from error


def _folder(path: str) -> str:
    if not Path(path).is_dir():
        raise InvalidSettings(f"workspace: {path} is no folder")
    return os.path.realpath(path)


def _seen(path: Path) -> Path | None:
    """The folder, if it is there for us as well."""
    with suppress(OSError):
        return path if path.is_dir() else None
    return None
