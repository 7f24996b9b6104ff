"""The gate of one build: its socket, its connections, and the removal of all that was made through it."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

import h11
import structlog

from agent.errors import AgentError, Conflict, EngineError, EngineUnavailable, InvalidRequest, NotFound, Unavailable
from agent.gate import bodies, disk, names, routes, strict_json
from agent.gate.exchange import MAX_HEADER, Exchange, Reader
from agent.gate.own import LABEL, Own
from agent.gate.policy import Refused
from agent.gate.removal import LABEL_INTENT, forget_gone, intention, remove_all
from agent.gate.restarts import Restarts
from agent.gate.shown import ShownAs
from agent.gate.subnets import gateway
from agent.gate.user_files import see_it_can_start
from agent.unix_socket import Connections

if TYPE_CHECKING:
    import socket as sockets
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from agent.gate.builder import Builder
    from agent.gate.journal import Journal, Kind
    from agent.gate.policy import GatePolicy, Workspace
    from agent.gate.upstream import Upstream

T = TypeVar("T")
_MOST_TOLD = 100  # refusals that are written down in a minute; all are counted
_LOOKUPS = 3  # each may cost the engine a thread for good: see `user_files`
_log = structlog.get_logger()
_STATUS: dict[type[AgentError], HTTPStatus] = {
    Refused: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Unavailable: HTTPStatus.TOO_MANY_REQUESTS,
    InvalidRequest: HTTPStatus.BAD_REQUEST,
}


@dataclass(kw_only=True)
class Gate:
    """Open its `connections`, and `close` it in the end. `refused` is told each refusal.

    What its journal has is the build's, also from an earlier gate. `refused` is called for each refusal, and told
    whether it is to be written down: of very many in a minute not all are.

    `admit` is called before the first request is answered, to complete what is only known or needed then. While it
    raises, no request is answered.
    """

    build: str
    policy: GatePolicy
    upstream: Upstream
    journal: Journal
    workspace: Workspace | None = None
    socket: Mapping[str, Any] | None = None  # a mount of the gate's own socket, without its target
    folder: Path | None = None  # where the workspace's files are for us, to make folders that a mount asks for
    member: str | None = None  # the build's own container, which is to reach what the build publishes
    refused: Callable[[Refused, bool], None] = lambda *_: None
    admit: Callable[[Gate], Awaitable[None]] | None = None
    builder: Builder | None = None  # without one, nothing is built
    execs: dict[str, str] = field(default_factory=dict)  # ids, and the container if it is asked for its users
    userless: set[str] = field(default_factory=set)  # containers that are known to run as no user of a name
    new_volumes: set[str] = field(default_factory=set)  # those made here that no container has had
    untouched: dict[str, str] = field(default_factory=dict)  # containers whose files are those of an image, which it is
    readable: set[str] = field(default_factory=set)  # images of which `user_files` has seen that it can be started
    asked_execs: int = 0
    scratch: int = 0  # bytes of archives that came and are not loaded yet
    is_full: bool = False  # it had too much on the disk at the last look
    unsized: set[str] = field(default_factory=set)  # containers and volumes of which that could not tell the size
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # counting and making are one step
    images: asyncio.Lock = field(default_factory=asyncio.Lock)  # the same, of images
    listing: asyncio.Lock = field(default_factory=asyncio.Lock)  # all of a build's containers may be much to read
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)  # the engine has what is saved on its disk meanwhile
    pushing: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)  # by the name
    diffing: asyncio.Lock = field(default_factory=asyncio.Lock)  # all files of a container are read and kept in mind
    topping: asyncio.Lock = field(default_factory=asyncio.Lock)  # all of a container's command lines are read at once
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)  # a container's files are read up to its users
    lookups: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_LOOKUPS))  # of a container's users

    def __post_init__(self) -> None:
        self.restarts = Restarts(self.upstream, self.journal, self._start_again, self.tell)
        self.own = Own(self.upstream, self.journal, self.prefix, lambda: self.policy, self.bring)
        networks = self.journal.all("network").items()
        self._network = next((each for each, name in networks if name == self.network_name), None)
        self._gateway = ""
        self._bound: str | None = None  # the host's folder that the workspace is
        self._told = (0, 0)  # a minute, and refusals in it
        self._admission, self._networking, self._reading = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
        self.connections = Connections(self._serve, Reader, lambda: self.policy.limits.connections)

    @asynccontextmanager
    async def making(self, kind: Kind) -> AsyncIterator[dict[str, str]]:
        """Make one more such thing in the block, with these labels, and journal it there. Raises Refused if too many.

        The label is on the disk before the thing is there: whenever the gate is killed, its removal finds it.
        """
        async with self.lock:
            await self.see_room(kind, 1)
            with self.intending(secrets.token_hex(16), kind) as intent:
                yield {LABEL: self.build, LABEL_INTENT: intent}

    @contextmanager
    def intending(self, intent: str, kind: Kind) -> Iterator[str]:
        """Have it in the journal that something is made in the block, which goes on to its end if the gate closes.

        It stays there if the engine may be making it without us.
        """
        with self.connections.unbroken():
            self.journal.add("intent", intent, intention(kind))
            try:
                yield intent
            except AgentError as error:
                if not isinstance(error, EngineUnavailable):
                    self.journal.remove("intent", intent)
                raise
            except asyncio.CancelledError:  # the engine goes on: it is looked for from now on
                self.journal.add("intent", intent, intention(kind, cut=True))
                raise
            self.journal.remove("intent", intent)

    async def see_room(self, kind: Kind, more: int) -> None:
        """See that the build may have so many more of them; for who holds the lock. Raises Refused."""
        disk.see_room(self)
        limits = self.policy.limits
        most = {"container": limits.containers, "network": limits.networks + 1, "volume": limits.volumes}[kind]
        if self.journal.count(kind) + more > most:
            await forget_gone(self.upstream, self.journal, self.build)
        if more and self.journal.count(kind) + more > most:
            raise Refused(f"limits.{kind}s", f"the build has {self.journal.count(kind)} {kind}s, and may have {most}")

    async def read(self, exchange: Exchange, model: type[bodies.M]) -> bodies.M:
        """The body of a request. Raises InvalidRequest, Refused."""
        return await self.understood(exchange, lambda data: bodies.read(model, strict_json.parse(data or b"{}")))

    async def understood(self, exchange: Exchange, read: Callable[[bytes], T]) -> T:
        """What `read` makes of the body of a request. Raises InvalidRequest, and what that does.

        A large one takes a tenth of a second, and gates of a service share a processor: others have their turn between
        two of a build.
        """
        data = await exchange.whole()
        async with self._reading:
            await asyncio.sleep(0)
            return read(data)

    async def network(self) -> dict[str, Any]:
        """The network of containers that name none, made with the first of them."""
        async with self._networking:
            found = await self._found_network()
            if found is None:
                self._network = await self._made_network()
                await self._join(self._network)
                found = (await self.upstream.ask("GET", f"/networks/{self._network}")).done().json()
        self._gateway = gateway(found)
        return found

    async def _found_network(self) -> dict[str, Any] | None:
        """It, if it was made and is still there: a prune of the host's takes it while no container is on it."""
        if self._network is None or not self.journal.has("network", self._network):
            return None
        answer = await self.upstream.ask("GET", f"/networks/{self._network}")
        if answer.status == HTTPStatus.NOT_FOUND:
            self.journal.remove("network", self._network)
            return None
        found: dict[str, Any] = answer.done().json()
        return found

    async def _made_network(self) -> str:
        async with self.making("network") as labels:
            body = {"Name": self.network_name, "Driver": "bridge", "Labels": labels}
            network = str((await self.upstream.ask("POST", "/networks/create", body=body)).done().json()["Id"])
            self.journal.add("network", network, self.network_name)
        return network

    async def _join(self, network: str) -> None:
        """Let the build's own container reach what is on its network, and what is published at its gateway."""
        if self.member is not None:
            path, body = f"/networks/{network}/connect", {"Container": self.member}
            (await self.upstream.ask("POST", path, body=body)).done()

    async def bring(self) -> None:
        """See that what the build has built is among its images. Raises EngineError."""
        if self.builder is not None:
            await self.builder.bring(self)

    def see_network(self, network_id: str) -> None:
        """See that it was not removed meanwhile; for who holds the lock. Raises NotFound."""
        if not self.journal.has("network", network_id):
            raise NotFound(f"network {network_id} not found")

    async def own_network(self, name: str) -> dict[str, Any]:
        """A network of the build's; `bridge` and `default` are its own one."""
        return await (self.network() if name in ("bridge", "default") else self.own.network(name))

    @property
    def shown_as(self) -> ShownAs:
        """How the build is to see things."""
        workspace = self.workspace
        if workspace is None:
            return ShownAs(self.network_name, self._gateway, None, "", "")
        return ShownAs(self.network_name, self._gateway, workspace.volume, workspace.subpath, workspace.path)

    @property
    def prefix(self) -> str:
        """What the engine has before each name of the build's."""
        return names.prefix(self.build)

    @property
    def network_name(self) -> str:
        """Its name on the engine; the build knows it as `bridge`."""
        return f"sibling-gate-{self.build}"

    async def bind_workspace(self, folder: str) -> str:
        """The name of a volume whose files are those of a folder of the host; made if it is not there yet."""
        name = f"{self.network_name}-workspace"
        options = {"type": "none", "o": "bind", "device": folder}
        self.journal.add("workspace", name)
        body: dict[str, Any] = {"Name": name, "DriverOpts": options, "Labels": {LABEL: self.build}}
        made = (await self.upstream.ask("POST", "/volumes/create", body=body)).done().json()
        if (made.get("Options") or {}).get("device") != folder:
            raise EngineError(f"there is another volume {name} already; remove it")
        self._bound = folder
        return name

    async def see_workspace(self) -> None:
        """Have the volume of `bind_workspace` again if the host pruned it: the engine would make an empty one."""
        if self._bound is not None:
            await self.bind_workspace(self._bound)

    async def _start_again(self, container: str) -> None:
        disk.see_room(self)
        await see_it_can_start(self, container)
        (await self.upstream.ask("POST", f"/containers/{container}/start")).done()

    async def open(self, listener: sockets.socket) -> None:
        """Serve there, and go on with what an earlier gate of the build had to do."""
        await self.connections.open(listener)
        self.restarts.resume()

    async def hang_up(self) -> None:
        """Serve nobody any more; what was made stays."""
        await self.connections.hang_up()
        await self.restarts.end()

    async def clear(self) -> None:
        """Remove all that was made, also through an earlier gate. Raises EngineError; then call it again.

        What the engine may still be making stays in the journal, for `close`.
        """
        await remove_all(self.upstream, self.journal, self.build, settle=False)

    async def close(self) -> None:
        """Hang up, then remove all that was made, and the journal. Raises as `clear`."""
        await self.hang_up()
        await remove_all(self.upstream, self.journal, self.build, settle=True)
        self.journal.delete()

    async def _serve(self, reader: Reader, writer: asyncio.StreamWriter) -> None:
        exchange = Exchange(
            reader, writer, h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER), self.prefix
        )
        try:
            while await self._one(exchange):
                await exchange.drain()
                if not exchange.next():
                    break
        except (OSError, h11.ProtocolError):
            pass  # it hung up
        finally:
            await exchange.close()

    async def _one(self, exchange: Exchange) -> bool:
        """One request; False if there was none."""
        try:
            if not await exchange.begin():
                return False
            await self._admit()
            await routes.answer(self, exchange)
        except AgentError as error:
            await self._refuse(exchange, error)
        except UnicodeDecodeError:
            await self._refuse(exchange, InvalidRequest("the path or the query is no UTF-8"))
        except (OSError, h11.ProtocolError):
            raise
        except Exception:  # noqa: BLE001 - told to whoever asked, and in the log
            _log.exception("fault in the gate", build=self.build, request=exchange.request.path)
            await self._refuse(exchange, EngineError("there is a fault in the gate; its log says more"))
        return True

    async def _admit(self) -> None:
        async with self._admission:
            if self.admit is not None:
                await self.admit(self)
                self.admit = None

    def tell(self, refusal: Refused) -> None:
        """Count a refusal, and have it written down unless there were very many in this minute."""
        minute = int(time.monotonic() / 60)
        self._told = (minute, self._told[1] + 1 if self._told[0] == minute else 1)
        is_told = self._told[1] <= _MOST_TOLD
        if is_told:
            _log.info("refused by the gate", build=self.build, rule=refusal.rule, reason=str(refusal))
        self.refused(refusal, is_told)

    async def _refuse(self, exchange: Exchange, error: AgentError) -> None:
        if isinstance(error, Refused):
            self.tell(error)
        if exchange.answered:  # too late to say it
            raise ConnectionAbortedError from error
        known = (status for kind, status in _STATUS.items() if isinstance(error, kind))
        status = next(known, HTTPStatus.INTERNAL_SERVER_ERROR)
        with suppress(h11.LocalProtocolError):
            await exchange.answer(status, {"message": str(error)})
