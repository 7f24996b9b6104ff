"""The durable queue: every build ever accepted, until it is deleted. Synchronous; any number of threads may call it.

A build's row is its place in the queue. Whoever claims a build gets a `Build` whose id, state and attempt prove it: a
change by its holder is a compare-and-swap on those three, so that a holder who was replaced can change nothing.
Every change is one short transaction, on the disk when the method returns. Any method may raise StoreUnavailable.
"""

from __future__ import annotations

import hmac
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import delete, func, insert, select, true, update

from agent.build_store.database import Database
from agent.build_store.table import (
    CLAIMED,
    COLUMNS,
    WAITING,
    build_from,
    builds,
    finished,
    has_room,
    is_agent,
    is_claimed,
    new_row,
)
from agent.builds import (
    AgentRecord,
    AgentRequest,
    Artifact,
    Build,
    BuildRequest,
    BuildState,
    Outcome,
    Reason,
    Result,
    new_build_id,
)
from agent.errors import Conflict, InvalidSettings, NotFound, StaleClaim, StoreUnavailable, Unavailable

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import ColumnElement, Connection

    from agent.build_store.table import BuildRow

_INSERT = insert(builds).returning(*COLUMNS)
_ORDER = list(BuildState)
_UNFINISHED = (BuildState.QUEUED, *CLAIMED)
_PAGE = 200  # builds
_is_queued = builds.c.state == BuildState.QUEUED
_CANCELLED_EARLY = Outcome(
    result=Result.ABORTED, reason=Reason.CANCELLED, message="The build was cancelled before it started."
)
_CANCELLED_ALONE = Outcome(
    result=Result.ABORTED, reason=Reason.CANCELLED, message="The build was cancelled when no service held it any more."
)


class BuildStore:
    """See the module. `held` is a build as `claim`, `adopt` or `advance` returned it; StaleClaim means let go of it."""

    def __init__(self, path: Path, key: bytes, clock: Callable[[], float] = time.time) -> None:
        """Open the file, making it or bringing it up to date. `key` is a Fernet key, `clock` tells seconds since 1970.

        Raises InvalidSettings for a key that is none, and StoreUnavailable if another service has the file open.
        """
        try:
            self._fernet = Fernet(key)
        except ValueError as error:
            raise InvalidSettings(
                "The secret key of the build store is damaged: it must be 32 bytes in URL-safe base64. "
                "Restore it from a backup."
            ) from error
        self._key = key
        self._clock = clock
        self._database = Database(path)

    def submit(
        self,
        request: BuildRequest | AgentRequest,
        created_by: str,
        *,
        idempotency_key: str | None = None,
        max_queued: int,
    ) -> tuple[Build, bool]:
        """Put a build into the queue; also says whether it is new, or the one that this idempotency key made before.

        Raises Conflict if the key made another request's build, and Unavailable if `max_queued` builds wait already.
        """
        values = new_row(new_build_id(), request, created_by, self._clock())
        values["secrets"] = self._encrypted(request.secret_values())
        if idempotency_key is not None:
            values |= {"idempotency_key": idempotency_key, "request_digest": self._digest(request)}
        with self._database.writing() as connection:
            row = _made_before(connection, values)
            created = row is None
            if row is None:
                _refuse_if_full(connection, max_queued)
                row = connection.execute(_INSERT, values).one()
        return build_from(row), created

    def get(self, build_id: str) -> Build:
        """The build. Raises NotFound."""
        found = self._read(builds.c.id == build_id)
        if not found:
            raise NotFound(f"There is no build {build_id}. It may have been deleted because of its age.")
        return found[0]

    def list(
        self, *, states: Collection[BuildState] = (), before: str | None = None, limit: int = 50
    ) -> builtins.list[Build]:
        """At most `limit` builds, the newest first: in these states, or in any, and older than the build `before`."""
        in_states = builds.c.state.in_(states) if states else true()
        older = builds.c.id < before if before is not None else true()
        return self._read(in_states, older, order=[builds.c.id.desc()], limit=limit)

    def secrets(self, build_id: str) -> dict[str, str]:
        """The secrets in the clear, by variable name, until the build has finished; then none. Raises NotFound."""
        with self._database.reading() as connection:
            row = connection.execute(select(builds.c.secrets).where(builds.c.id == build_id)).one_or_none()
        if row is None:
            raise NotFound(f"There is no build {build_id}.")
        if row.secrets is None:
            return {}
        try:
            values: dict[str, str] = json.loads(self._fernet.decrypt(row.secrets))
        except InvalidToken as error:
            raise StoreUnavailable(
                f"The secrets of build {build_id} cannot be read: they were stored with another secret key. "
                "Restore that key, or cancel the build and submit it again."
            ) from error
        return values

    def claim(self, owner: str, lease_until: float, admits: Callable[[Build], bool]) -> Build | None:
        """Take the first build by priority, then age, whose concurrency key has room, and make it PREPARING.

        None if no build waits, or if that first one is not admitted: no other overtakes it, lest big builds starve.
        `admits` is asked outside of any transaction, maybe about a build that another claimer then gets.
        """
        first = [builds.c.priority.desc(), builds.c.id]
        taken = {
            "state": BuildState.PREPARING,
            "attempt": builds.c.attempt + 1,
            "owner": owner,
            "lease_until": lease_until,
        }
        while (heads := self._read(_is_queued, has_room, order=first, limit=1)) and admits(heads[0]):
            if claimed := self._change([*_same(heads[0]), has_room], taken):
                return claimed[0]
        return None

    def advance(
        self,
        held: Build,
        *,
        state: BuildState | None = None,
        started_at: float | None = None,
        image_id: str | None = None,
        phases: Mapping[str, float] | None = None,
        agent: AgentRecord | None = None,
    ) -> Build:
        """Write down how far a claimed build has come; what is None stays as it was, `phases` are all so far."""
        if state is BuildState.FINISHED or (state and _ORDER.index(state) < _ORDER.index(held.state)):
            raise ValueError(f"build {held.id} cannot advance from {held.state} to {state}")
        given = {
            "started_at": started_at,
            "image_id": image_id,
            "phases": phases and dict(phases),
            "agent": agent and asdict(agent),
        }
        values = {name: value for name, value in given.items() if value is not None}
        return self._change_held(held, values | {"state": state or held.state})

    def finish(
        self, held: Build, outcome: Outcome, *, phases: Mapping[str, float], artifacts: Sequence[Artifact]
    ) -> Build:
        """Publish how a claimed build ended, and forget its secrets."""
        files = [[artifact.path, artifact.size] for artifact in artifacts]
        ended = finished(outcome, self._clock())
        return self._change_held(held, ended | {"phases": dict(phases), "artifacts": files})

    def request_cancel(self, build_id: str) -> Build:
        """Finish a queued build as ABORTED, tell the holder of a claimed one, leave a finished one. Raises NotFound."""
        this = builds.c.id == build_id
        with self._database.writing() as connection:
            rows = _update(connection, [this, _is_queued], finished(_CANCELLED_EARLY, self._clock()))
            rows += _update(connection, [this, is_claimed], {"cancel_requested": True})
        return build_from(rows[0]) if rows else self.get(build_id)

    def renew(self, owner: str, lease_until: float) -> builtins.list[str]:
        """Prolong the owner's claims; returns the ids of all that it still holds."""
        return [build.id for build in self._change([is_claimed, builds.c.owner == owner], {"lease_until": lease_until})]

    def adopt(self, owner: str, lease_until: float) -> builtins.list[Build]:
        """Claim again, in the state they are in, the builds that an earlier process of this owner held.

        Each is a new attempt: should that process still be alive, it holds nothing any more.
        """
        values = {"attempt": builds.c.attempt + 1, "lease_until": lease_until}
        return self._change([is_claimed, builds.c.owner == owner], values)

    def release_expired(self) -> builtins.list[Build]:
        """Take back the claims whose lease is over; returns these builds: queued again, or ABORTED if so asked."""
        return self._release(builds.c.lease_until <= self._clock())

    def requeue(self, held: Build) -> Build:
        """Give a claim back; the build is queued again, or ABORTED if so asked."""
        return self._only(self._release(*_same(held)), held)

    def delete_finished(
        self, before: float, limit: int = 100, *, first: Callable[[str], None] = lambda _: None
    ) -> builtins.list[str]:
        """Forget builds that finished before that time: the `limit` that finished first. Returns their ids.

        `first` is called with each id beforehand, to remove what else there is of it: if that fails, or is cut off, the
        build is still here and its turn comes again.
        """
        old = select(builds.c.id).where(builds.c.finished_at < before)
        with self._database.reading() as connection:
            ids = [*connection.scalars(old.order_by(builds.c.finished_at).limit(limit))]
        for build_id in ids:
            first(build_id)
        with self._database.writing() as connection:
            connection.execute(delete(builds).where(builds.c.id.in_(ids)))
        return ids

    def unfinished(self) -> Iterator[Build]:
        """All builds that have not finished, the newest first; read in pages, since a full queue is large."""
        before = None
        while page := self.list(states=_UNFINISHED, before=before, limit=_PAGE):
            yield from page
            before = page[-1].id

    def running(self) -> builtins.list[Build]:
        """All claimed builds, preparing or running, the oldest first."""
        return self._read(is_claimed, order=[builds.c.id])

    def agents(self) -> builtins.list[Build]:
        """All agents that have not finished, the oldest first."""
        return self._read(is_agent, builds.c.state.in_(_UNFINISHED), order=[builds.c.id])

    def counts(self) -> dict[BuildState, int]:
        """How many builds are in each state."""
        with self._database.reading() as connection:
            rows = connection.execute(select(builds.c.state, func.count()).group_by(builds.c.state)).all()
        return dict.fromkeys(BuildState, 0) | {BuildState(state): count for state, count in rows}

    def check(self) -> None:
        """Raise StoreUnavailable if a build could not be accepted now. Costs one small write to the disk."""
        self._database.check()

    def close(self) -> None:
        """Let go of the file; another service may open it then."""
        self._database.close()

    def _read(
        self, *where: ColumnElement[bool], order: Sequence[ColumnElement[Any]] = (), limit: int | None = None
    ) -> builtins.list[Build]:
        with self._database.reading() as connection:
            rows = connection.execute(select(*COLUMNS).where(*where).order_by(*order).limit(limit)).all()
        return [build_from(row) for row in rows]

    def _change(self, where: Sequence[ColumnElement[bool]], values: Mapping[str, Any]) -> builtins.list[Build]:
        with self._database.writing() as connection:
            rows = _update(connection, where, values)
        return _by_age(rows)

    def _change_held(self, held: Build, values: Mapping[str, Any]) -> Build:
        return self._only(self._change([is_claimed, *_same(held)], values), held)

    def _only(self, changed: Sequence[Build], held: Build) -> Build:
        if changed:
            return changed[0]
        now = self._read(builds.c.id == held.id)
        found = f"it is {now[0].state}, attempt {now[0].attempt}" if now else "it was deleted"
        raise StaleClaim(
            f"Build {held.id} is not held by {held.owner} as {held.state}, attempt {held.attempt}, any more: {found}."
        )

    def _release(self, *where: ColumnElement[bool]) -> builtins.list[Build]:
        ended = finished(_CANCELLED_ALONE, self._clock())
        with self._database.writing() as connection:
            rows = _update(connection, [is_claimed, builds.c.cancel_requested, *where], ended)
            rows += _update(connection, [is_claimed, *where], WAITING)
        return _by_age(rows)

    def _encrypted(self, values: Mapping[str, str]) -> bytes | None:
        return self._fernet.encrypt(json.dumps(values).encode()) if values else None

    def _digest(self, request: BuildRequest | AgentRequest) -> str:
        """The same for the same request, secrets included; keyed, lest one who has the file tries out secrets."""
        whole = json.dumps([request.model_dump(mode="json"), request.secret_values()], sort_keys=True)
        return hmac.digest(self._key, whole.encode(), "sha256").hex()


def _same(held: Build) -> list[ColumnElement[bool]]:
    return [builds.c.id == held.id, builds.c.state == held.state, builds.c.attempt == held.attempt]


def _update(connection: Connection, where: Sequence[ColumnElement[bool]], values: Mapping[str, Any]) -> list[BuildRow]:
    return [*connection.execute(update(builds).where(*where).values(values).returning(*COLUMNS))]


def _by_age(rows: Sequence[BuildRow]) -> list[Build]:
    return sorted((build_from(row) for row in rows), key=lambda build: build.id)


def _made_before(connection: Connection, values: Mapping[str, Any]) -> BuildRow | None:
    key = values.get("idempotency_key")
    if key is None:
        return None
    where = [builds.c.created_by == values["created_by"], builds.c.idempotency_key == key]
    made = connection.execute(select(*COLUMNS, builds.c.request_digest).where(*where)).one_or_none()
    if made is not None and made.request_digest != values["request_digest"]:
        raise Conflict(
            f"Idempotency key {key!r} made build {made.id} from another request. Use a new key for a new build."
        )
    return made


def _refuse_if_full(connection: Connection, max_queued: int) -> None:
    queued = connection.scalar(select(func.count()).where(_is_queued))
    if queued is not None and queued >= max_queued:
        raise Unavailable(f"{queued} builds wait already, and queue.max_queued is {max_queued}. Try again later.")
