"""The engine over Docker's socket: each verb of `Engine` as calls of the Docker API.

Imported by `api/commands.py` alone.
"""

from __future__ import annotations

import json
import math
import time
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from anyio import fail_after

from agent import references
from agent.docker_engine import wire
from agent.docker_engine.calls import DockerCalls, unless
from agent.docker_engine.stream import MAX_STDIN
from agent.docker_engine.wire import Refused
from agent.errors import ContainerExists, ContainerNotFound, EngineError, ImageUnavailable, PushFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from agent.docker_engine.stream import Connection, DockerStream
    from agent.engine import Container, ContainerSpec, EngineInfo, ExitStatus, Image, MountPoint, Usage
    from agent.registries import Login

T = TypeVar("T")

_PROGRESS_EVERY = 1.0
_REMOVAL = 5  # seconds that a removal by someone else may take before it is asked for again


class DockerEngine:
    """An `Engine`. `host` is a Unix socket's path or `unix://` URL; times are in seconds.

    `timeout` bounds a short call, `pull_timeout` a pull. At most `stream_limit` outputs, waits, stops, pulls and files
    are under way at once; more wait their turn.
    """

    def __init__(self, host: str, *, timeout: float, stream_limit: int, pull_timeout: float) -> None:
        self._pull_timeout = pull_timeout
        self._calls = DockerCalls(host.removeprefix("unix://"), timeout, stream_limit)
        self._sdk = self._calls.sdk

    async def info(self) -> EngineInfo:
        """What the engine is. Raises EngineError if its API is too old for us."""
        version = await self._calls.short("ask the engine for its version", self._sdk.version, api_version=False)
        wire.check_api(version)
        return wire.engine_info(await self._calls.short("ask the engine about itself", self._sdk.info), version)

    async def ensure_network(self, name: str, labels: Mapping[str, str]) -> None:
        """Make the builds' bridge if it is not there. Raises EngineError if one is that lets containers meet."""
        inspect = partial(self._calls.short, f"look for network {name}", self._sdk.inspect_network, name)
        network = await unless(HTTPStatus.NOT_FOUND, inspect())
        if network is None:
            create = partial(
                self._sdk.create_network, driver="bridge", options={wire.ICC: "false"}, labels=dict(labels)
            )
            # In a conflict another service was faster.
            await unless(HTTPStatus.CONFLICT, self._calls.short(f"create network {name}", create, name))
            network = await inspect()
        if network["Driver"] != "bridge" or (network["Options"] or {}).get(wire.ICC) != "false":
            raise EngineError(
                f"network {name} is there already, but is no bridge that keeps containers apart ({wire.ICC}=false); "
                f"remove it with `docker network rm {name}`, or name another one in engine.network"
            )

    async def ensure_volume(self, name: str, labels: Mapping[str, str]) -> str:
        """Make the volume if it is not there: the engine answers a second creation with the volume that is."""
        volume = await self._calls.short(f"create volume {name}", self._sdk.create_volume, name, labels=dict(labels))
        return str(volume["Mountpoint"])

    async def image(self, reference: str) -> Image | None:
        """The image that the reference names, or None; None too if it has the name for as long as its push takes."""
        inspect = self._calls.short(f"look for image {reference}", self._sdk.inspect_image, reference)
        answer = await unless(HTTPStatus.NOT_FOUND, inspect)
        if answer is None or references.is_lent(reference, answer.get("RepoTags") or ()):
            return None
        return wire.image(answer)

    async def ensure_image(self, reference: str, archive: bytes) -> None:
        """Make an image of this name out of a tar of its files, unless there is one."""
        if await self.image(reference) is None:
            repository, _, tag = reference.rpartition(":")
            make = partial(self._sdk.import_image_from_data, archive, repository=repository, tag=tag)
            await self._calls.slow(f"make image {reference}", make)

    async def pull(self, reference: str, progress: Callable[[str], None], login: Login | None = None) -> None:
        """Pull it; `progress` is called in another thread, once a second at most."""
        path = f"/images/create?fromImage={quote(reference, safe='')}"
        pull = partial(_transfer, path, wire.PullProgress(reference), progress, login)
        try:
            with fail_after(self._pull_timeout):
                await self._calls.long(f"pull image {reference}", pull)
        except Refused as refused:
            raise ImageUnavailable(str(refused)) from refused
        except TimeoutError as error:
            raise ImageUnavailable(
                f"could not pull image {reference} within {self._pull_timeout:g} seconds (engine.pull_timeout)"
            ) from error

    async def push(self, reference: str, progress: Callable[[str], None], login: Login | None = None) -> str:
        """Push it; `progress` is called in another thread, once a second at most."""
        name, _, tag = reference.rpartition(":")
        state = wire.PushProgress(reference)
        push = partial(_transfer, f"/images/{quote(name)}/push?tag={quote(tag)}", state, progress, login)
        try:
            with fail_after(self._pull_timeout):
                await self._calls.long(f"push image {reference}", push)
        except Refused as refused:
            raise PushFailed(str(refused), denied=refused.status == HTTPStatus.NOT_FOUND) from refused
        except TimeoutError as error:
            raise PushFailed(
                f"could not push image {reference} within {self._pull_timeout:g} seconds (engine.pull_timeout)",
                denied=True,
            ) from error
        return state.digest()

    async def tag(self, image: str, reference: str) -> None:
        """Give it one more name."""
        name, _, tag = reference.rpartition(":")
        try:
            await self._calls.short(f"tag image {image} as {reference}", self._sdk.tag, image, name, tag)
        except Refused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                raise ImageUnavailable(str(refused)) from refused
            raise

    async def untag(self, reference: str) -> None:
        """Take the name away; a container that runs keeps the image."""
        untag = self._calls.short(f"remove image {reference}", self._sdk.remove_image, reference)
        await unless(HTTPStatus.NOT_FOUND, untag)

    async def tags(self, folder: str) -> Sequence[str]:
        """Those right below it; the engine tells all tags of each image that has one there."""
        find = partial(self._sdk.images, filters={"reference": f"{folder}/*"})
        answer = await self._calls.short(f"list images below {folder}", find)
        tags = (tag for image in answer for tag in image.get("RepoTags") or ())
        return [tag for tag in tags if tag.startswith(f"{folder}/")]

    async def create(self, name: str, spec: ContainerSpec) -> str:
        """Create a container and return its id."""
        create = self._sdk.create_container_from_config
        try:
            answer = await self._calls.short(f"create container {name}", create, wire.create_body(spec), name)
        except Refused as refused:
            if refused.status == HTTPStatus.CONFLICT:
                raise ContainerExists(str(refused)) from refused
            if refused.status == HTTPStatus.NOT_FOUND and await self.image(spec.image) is None:
                raise ImageUnavailable(str(refused)) from refused
            raise
        return str(answer["Id"])

    async def read_file(self, container: str, path: str) -> bytes | None:
        """A regular file of at most 1 MiB. Raises EngineError if it is larger."""
        doing = f"read {path} of container {container}"
        archive = await unless(HTTPStatus.NOT_FOUND, self._calls.long(doing, partial(_get_archive, container, path)))
        if archive is None:
            await self._inspect(container)
            return None
        return wire.archived_file(doing, archive)

    async def has_path(self, container: str, path: str) -> bool:
        """Whether it has a file, folder or link of that name."""
        look = self._calls.long(f"look for {path} in container {container}", partial(_head_archive, container, path))
        if await unless(HTTPStatus.NOT_FOUND, look) is not None:
            return True
        await self._inspect(container)
        return False

    async def waits_at(self, container: str, path: str) -> bool:
        """Whether whoever opens it there waits: for the other end of a pipe, say, also behind a link."""
        for _ in range(2):  # the target of a link is told without further links (moby/moby, archive_unix.go, statPath)
            look = self._calls.long(f"look at {path} in container {container}", partial(_head_archive, container, path))
            stat = await unless(HTTPStatus.NOT_FOUND, look)
            if stat is None:
                await self._inspect(container)
                return False
            if stat.target is None:
                return stat.waits
            path = stat.target
        return True

    async def write_file(self, container: str, path: str, content: bytes, mode: int) -> None:
        """Write a file, owned by root; missing parents are made. Raises EngineError if the path is a folder."""
        put = partial(_put_archive, container, wire.file_archive(path, content, mode))
        await self._for(container, self._calls.long(f"write {path} into container {container}", put))

    async def make_link(self, container: str, path: str, target: str) -> None:
        """Make a symbolic link. What was there goes, but a folder. Links on the way to it are followed, as in there."""
        put = partial(_put_archive, container, wire.link_archive(path, target))
        await self._for(container, self._calls.long(f"make the link {path} in container {container}", put))

    async def attach(self, container: str, stdin: bytes) -> DockerStream:
        """Attach before the start. The engine's socket holds `stdin` until the container reads it, even if we die."""
        if len(stdin) > MAX_STDIN:
            raise EngineError(
                f"container {container} cannot be given {len(stdin)} bytes to read; {MAX_STDIN} is the most"
            )
        attach = partial(_attach, container, stdin)
        return await self._for(container, self._calls.stream(f"read the output of container {container}", attach))

    async def logs(self, container: str, *, follow: bool) -> DockerStream:
        """All that it wrote so far, and then what it writes."""
        logs = partial(_logs, container, follow=follow)
        return await self._for(container, self._calls.stream(f"read the log of container {container}", logs))

    async def start(self, container: str) -> None:
        """Start it; nothing happens if it runs. One that has ended runs again, so look before asking twice."""
        await self._for(container, self._calls.short(f"start container {container}", self._sdk.start, container))

    async def wait(self, container: str) -> ExitStatus:
        """Wait for its end. Raises EngineError if it was never started, which the engine takes for exit code 0."""
        doing = f"wait for container {container}"
        await self._for(container, self._calls.long(doing, partial(_wait, container)))
        return wire.exit_status(doing, (await self._inspect(container))["State"])

    async def limit(self, container: str, *, cpus: float, memory: int) -> None:
        """Other limits, in the same terms as at its creation, which the SDK does not know here."""
        update = partial(_update, container, wire.update_body(cpus, memory))
        await self._for(container, self._calls.long(f"limit container {container}", update))

    async def stop(self, container: str, grace: float) -> None:
        """TERM, then KILL after `grace`, which the engine takes in whole seconds."""
        stop = self._calls.slow(f"stop container {container}", self._sdk.stop, container, timeout=math.ceil(grace))
        await unless(HTTPStatus.NOT_FOUND, stop)

    async def remove(self, container: str) -> None:
        """Kill it if it runs, and remove it with its anonymous volumes; returns when it is gone."""
        doing = f"remove container {container}"
        try:
            await self._calls.short(doing, self._sdk.remove_container, container, v=True, force=True)
        except Refused as refused:
            if refused.status == HTTPStatus.CONFLICT:  # another removal is under way
                options = {"timeout": _REMOVAL, "condition": "removed"}
                await unless(HTTPStatus.NOT_FOUND, self._calls.slow(doing, self._sdk.wait, container, **options))
            elif refused.status != HTTPStatus.NOT_FOUND:
                raise

    async def container(self, name: str) -> Container | None:
        """The container of that name or id, or None."""
        answer = await self._find(name)
        return None if answer is None else wire.inspected_container(answer)

    async def mounts(self, container: str) -> Sequence[MountPoint]:
        """All that is mounted in a container, its image's volumes included."""
        return [wire.mount_point(mount) for mount in (await self._inspect(container))["Mounts"]]

    async def list(self, labels: Mapping[str, str]) -> Sequence[Container]:
        """All containers with these labels, running or not."""
        filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
        answer = await self._calls.short("list containers", self._sdk.containers, all=True, filters=filters)
        return [wire.listed_container(entry) for entry in answer]

    async def stats(self, container: str) -> Usage:
        """What it uses now."""
        options = {"stream": False, "one_shot": True}
        stats = self._calls.short(f"measure container {container}", self._sdk.stats, container, **options)
        return wire.usage(await self._for(container, stats))

    async def close(self) -> None:
        """Let go of all connections; what is under way ends with EngineUnavailable."""
        self._calls.close()

    async def _inspect(self, container: str) -> wire.Json:
        answer = await self._find(container)
        if answer is None:
            raise ContainerNotFound(f"there is no container {container} on the engine")
        return answer

    async def _find(self, container: str) -> wire.Json | None:
        inspect = self._calls.short(f"look for container {container}", self._sdk.inspect_container, container)
        return await unless(HTTPStatus.NOT_FOUND, inspect)

    async def _for(self, container: str, call: Awaitable[T]) -> T:
        """What the call gives. The engine says 404 of a missing container, but also of its network, volume or file."""
        try:
            return await call
        except Refused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                await self._inspect(container)
            raise


def _transfer(
    path: str,
    state: wire.PullProgress | wire.PushProgress,
    progress: Callable[[str], None],
    login: Login | None,
    connection: Connection,
) -> None:
    connection.wait_forever()  # the engine says nothing before the registry does
    connection.ask("POST", path, wire.registry_auth(login))
    said = time.monotonic()
    for line in connection.lines():
        state.take(json.loads(line))
        if time.monotonic() - said >= _PROGRESS_EVERY:
            said = time.monotonic()
            progress(str(state))


def _attach(container: str, stdin: bytes, connection: Connection) -> None:
    path = f"/containers/{quote(container)}/attach?stream=1&stdin=1&stdout=1&stderr=1"
    connection.ask("POST", path, {"Connection": "Upgrade", "Upgrade": "tcp"})
    connection.send_all(stdin)
    connection.wait_forever()


def _logs(container: str, connection: Connection, *, follow: bool) -> None:
    connection.ask("GET", f"/containers/{quote(container)}/logs?stdout=1&stderr=1&follow={int(follow)}")
    connection.wait_forever()


def _wait(container: str, connection: Connection) -> None:
    connection.ask("POST", f"/containers/{quote(container)}/wait?condition=not-running")
    connection.wait_forever()
    connection.read()


def _get_archive(container: str, path: str, connection: Connection) -> bytes:
    connection.ask("GET", f"/containers/{quote(container)}/archive?path={quote(path)}")
    return connection.read(wire.MAX_ARCHIVE)


def _head_archive(container: str, path: str, connection: Connection) -> wire.PathStat:
    connection.ask("HEAD", f"/containers/{quote(container)}/archive?path={quote(path)}")
    return wire.path_stat(connection.response.headers["X-Docker-Container-Path-Stat"])


def _update(container: str, body: bytes, connection: Connection) -> None:
    connection.ask("POST", f"/containers/{quote(container)}/update", {"Content-Type": "application/json"}, body=body)


def _put_archive(container: str, archive: bytes, connection: Connection) -> None:
    connection.ask("PUT", f"/containers/{quote(container)}/archive?path=/&noOverwriteDirNonDir=1", body=archive)
