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
from sqlalchemy import Text, cast, delete, func, insert, select, true, update

from agent.build_store.database import Database
from agent.build_store.exchanges import Exchanges
from agent.build_store.table import (
    COLUMNS,
    WAITING,
    build_from,
    builds,
    finished,
    has_room,
    in_lane,
    is_agent,
    is_claimed,
    made_image,
    new_row,
)
from agent.builds import (
    UNFINISHED,
    AgentRecord,
    Artifact,
    Build,
    BuildState,
    ImageRecord,
    Lane,
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
    from agent.requests import Request

_INSERT = insert(builds).returning(*COLUMNS)
_ORDER = list(BuildState)
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
        self.exchanges = Exchanges(self._database, key, clock)

    def submit(
        self,
        request: Request,
        created_by: str,
        *,
        parent: str | None = None,
        idempotency_key: str | None = None,
        max_queued: int,
    ) -> tuple[Build, bool]:
        """Put a build into the queue; also says whether it is new, or the one that this idempotency key made before.

        `parent` is the build that asks for it from inside.

        Raises Conflict if the key made another request's build, and Unavailable if `max_queued` builds wait already.
        """
        values = new_row(new_build_id(), request, created_by, self._clock(), parent)
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
        self,
        *,
        states: Collection[BuildState] = (),
        parent: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> builtins.list[Build]:
        """At most `limit` builds, the newest first: in these states, or in any, and older than the build `before`.

        With `parent` only those that this build asked for.
        """
        in_states = builds.c.state.in_(states) if states else true()
        of_parent = builds.c.parent == parent if parent is not None else true()
        return self._read(in_states, of_parent, _older(before), order=[builds.c.id.desc()], limit=limit)

    def images(
        self,
        *,
        created_by: str | None = None,
        tag: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> builtins.list[Build]:
        """At most `limit` image builds that made an image, the newest first: of one caller, or of all.

        `tag` is a full reference that they gave.
        """
        # The list as JSON text, in which a reference has no character that is written otherwise. The rest of the record
        # has references, too: of its bases.
        tags = cast(builds.c.image["tags"], Text)
        tagged = tags.contains(f'"{tag}"', autoescape=True) if tag is not None else true()
        mine = builds.c.created_by == created_by if created_by is not None else true()
        return self._read(*made_image, mine, tagged, _older(before), order=[builds.c.id.desc()], limit=limit)

    def image_tags(self, created_by: str, limit: int) -> dict[str, str]:
        """The names that one caller's last image builds gave, and by each the newest build's id.

        A build that starts looks at them all, so no whole records are made of them.
        """
        found: dict[str, str] = {}
        query = select(builds.c.id, builds.c.image).where(*made_image, builds.c.created_by == created_by)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(builds.c.id.desc()).limit(limit)).all()
        for row in rows:
            for tag in row.image["tags"] if row.image else ():
                found.setdefault(tag, row.id)
        return found

    def orphans(self) -> builtins.list[Build]:
        """Builds that have not finished, while the one that asked for them has, or is gone."""
        parents = builds.alias("parents")
        alive = select(parents.c.id).where(parents.c.state.in_(UNFINISHED))
        return self._read(builds.c.parent.is_not(None), builds.c.state.in_(UNFINISHED), builds.c.parent.not_in(alive))

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

    def claim(
        self, owner: str, lease_until: float, admits: Callable[[Build], bool], *, lane: Lane = Lane.BUILDS
    ) -> Build | None:
        """Take a lane's first build by priority, then age, whose concurrency key has room, and make it PREPARING.

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
        while (heads := self._read(_is_queued, in_lane[lane], has_room, order=first, limit=1)) and admits(heads[0]):
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
        self,
        held: Build,
        outcome: Outcome,
        *,
        phases: Mapping[str, float],
        artifacts: Sequence[Artifact],
        image: ImageRecord | None = None,
    ) -> Build:
        """Publish how a claimed build ended and what it made, and forget its secrets."""
        files = [[artifact.path, artifact.size] for artifact in artifacts]
        left = {"phases": dict(phases), "artifacts": files, "image": image and asdict(image)}
        return self._change_held(held, finished(outcome, self._clock()) | left)

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
        while page := self.list(states=UNFINISHED, before=before, limit=_PAGE):
            yield from page
            before = page[-1].id

    def running(self) -> builtins.list[Build]:
        """All claimed builds, preparing or running, the oldest first."""
        return self._read(is_claimed, order=[builds.c.id])

    def agents(self) -> builtins.list[Build]:
        """All agents that have not finished, the oldest first."""
        return self._read(is_agent, builds.c.state.in_(UNFINISHED), order=[builds.c.id])

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

    def _digest(self, request: Request) -> str:
        """The same for the same request, secrets included; keyed, lest one who has the file tries out secrets."""
        whole = json.dumps([request.model_dump(mode="json"), request.secret_values()], sort_keys=True)
        return hmac.digest(self._key, whole.encode(), "sha256").hex()


def _same(held: Build) -> list[ColumnElement[bool]]:
    return [builds.c.id == held.id, builds.c.state == held.state, builds.c.attempt == held.attempt]


def _update(connection: Connection, where: Sequence[ColumnElement[bool]], values: Mapping[str, Any]) -> list[BuildRow]:
    return [*connection.execute(update(builds).where(*where).values(values).returning(*COLUMNS))]


def _older(before: str | None) -> ColumnElement[bool]:
    return builds.c.id < before if before is not None else true()


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
