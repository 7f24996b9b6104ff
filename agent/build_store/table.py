"""The builds table, and how a row of it becomes a `Build`. Serves the build store and the migrations' tests.

Only types that SQLite and PostgreSQL both have. A change here needs a migration.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import sqlalchemy as sa

from agent.builds import (
    AgentRecord,
    Artifact,
    BaseImage,
    Build,
    BuildState,
    ImageRecord,
    ImageStep,
    Job,
    Lane,
    Outcome,
    Pushed,
    Reason,
    Result,
)
from agent.requests import AgentRequest, BuildRequest, HookRequest, ImageBuildRequest, ImagePushRequest, Request

metadata = sa.MetaData()
builds = sa.Table(
    "builds",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("request", sa.Text, nullable=False),  # JSON, secrets masked
    sa.Column("secrets", sa.LargeBinary),  # encrypted; NULL if there are none, or none any more
    sa.Column("created_by", sa.String(255), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("request_digest", sa.String(64)),  # keyed; only beside an idempotency key
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("concurrency_key", sa.String(256)),
    sa.Column("concurrency_limit", sa.Integer),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("owner", sa.String(255)),
    sa.Column("lease_until", sa.Double),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("finished_at", sa.Double),
    sa.Column("result", sa.String(16)),
    sa.Column("reason", sa.String(32)),
    sa.Column("message", sa.Text),
    sa.Column("exit_code", sa.Integer),
    sa.Column("phases", sa.JSON, nullable=False),
    sa.Column("artifacts", sa.JSON, nullable=False),  # [[path, size], ...]
    sa.Column("image_id", sa.String(255)),
    sa.Column("kind", sa.String(16), nullable=False, server_default="build"),  # of request: a key of `_REQUESTS`
    sa.Column("agent", sa.JSON),  # an AgentRecord
    sa.Column("parent", sa.String(26)),
    sa.Column("image", sa.JSON),  # an ImageRecord
    sa.UniqueConstraint("created_by", "idempotency_key", name="builds_idempotency"),
)
sa.Index("builds_queue", builds.c.state, builds.c.priority.desc(), builds.c.id)
sa.Index("builds_by_state", builds.c.state, builds.c.id)
sa.Index("builds_concurrency", builds.c.concurrency_key, builds.c.state)
sa.Index("builds_retention", builds.c.finished_at)
sa.Index("builds_parent", builds.c.parent)
sa.Index("builds_images", builds.c.kind, builds.c.created_by, builds.c.id)

CLAIMED = (BuildState.PREPARING, BuildState.CONNECTED, BuildState.RUNNING)
_REQUESTS: dict[str, type[Request]] = {
    "build": BuildRequest,
    "agent": AgentRequest,
    "hook": HookRequest,
    "image": ImageBuildRequest,
    "push": ImagePushRequest,
}
_KINDS = {request: kind for kind, request in _REQUESTS.items()}
# What `build_from` needs.
COLUMNS = [column for column in builds.c if column.name not in {"secrets", "request_digest", "idempotency_key"}]
BuildRow: TypeAlias = sa.Row[*tuple[Any, ...]]

_others = builds.alias("others")
is_claimed = builds.c.state.in_(CLAIMED)
is_agent = builds.c.kind == "agent"
made_image = (
    builds.c.kind == "image",
    builds.c.state == BuildState.FINISHED,
    builds.c.result == Result.SUCCESS,
)
_is_container = builds.c.kind.in_(["build", "agent"])
in_lane = {
    Lane.IMAGES: builds.c.kind.in_(["image", "push"]),
    Lane.HOOKS: builds.c.kind == "hook",
    Lane.NESTED: sa.and_(_is_container, builds.c.parent.is_not(None)),
    Lane.BUILDS: sa.and_(_is_container, builds.c.parent.is_(None)),
}
has_room = sa.or_(
    builds.c.concurrency_key.is_(None),
    sa.select(sa.func.count())
    .select_from(_others)
    .where(_others.c.concurrency_key == builds.c.concurrency_key, _others.c.state.in_(CLAIMED))
    .correlate(builds)
    .scalar_subquery()
    < builds.c.concurrency_limit,
)


def build_from(row: BuildRow) -> Build:
    """The build of a row of `COLUMNS`."""
    return Build(
        id=row.id,
        state=BuildState(row.state),
        request=_REQUESTS[row.kind].model_validate_json(row.request),
        created_by=row.created_by,
        created_at=row.created_at,
        attempt=row.attempt,
        owner=row.owner,
        lease_until=row.lease_until,
        cancel_requested=row.cancel_requested,
        started_at=row.started_at,
        finished_at=row.finished_at,
        outcome=_outcome_from(row),
        phases=row.phases,
        artifacts=tuple(Artifact(path=path, size=size) for path, size in row.artifacts),
        image_id=row.image_id,
        agent=_agent_from(row.agent or {}) if row.kind == "agent" else None,
        parent=row.parent,
        image=row.image and _image_from(row.image),
    )


def new_row(build_id: str, request: Request, created_by: str, created_at: float, parent: str | None) -> dict[str, Any]:
    """The values of a build that waits for its first claim, without its secrets and its idempotency key."""
    concurrency = request.concurrency
    return {
        "id": build_id,
        "kind": _KINDS[type(request)],
        "parent": parent,
        "request": request.model_dump_json(),
        "created_by": created_by,
        "created_at": created_at,
        "priority": request.priority,
        "concurrency_key": concurrency and concurrency.key,
        "concurrency_limit": concurrency and concurrency.limit,
        "attempt": 0,
        "cancel_requested": False,
        "artifacts": [],
        **WAITING,
    }


# What makes a claimed build one that waits again: nothing of the attempt is left.
WAITING: dict[str, Any] = {
    "state": BuildState.QUEUED,
    "owner": None,
    "lease_until": None,
    "started_at": None,
    "image_id": None,
    "phases": {},
    "agent": None,
    "image": None,
}


def finished(outcome: Outcome, finished_at: float) -> dict[str, Any]:
    """What makes a build one that ended so; its secrets go."""
    # A file's name in the message may hold bytes that are no text; the driver would refuse it, and the build never end.
    message = outcome.message and outcome.message.encode(errors="backslashreplace").decode()
    return {
        "state": BuildState.FINISHED,
        "lease_until": None,
        "finished_at": finished_at,
        "secrets": None,
        "result": outcome.result,
        "reason": outcome.reason,
        "message": message,
        "exit_code": outcome.exit_code,
    }


def _outcome_from(row: BuildRow) -> Outcome | None:
    if row.result is None:
        return None
    return Outcome(
        result=Result(row.result),
        reason=row.reason and Reason(row.reason),
        message=row.message,
        exit_code=row.exit_code,
    )


def _image_from(values: dict[str, Any]) -> ImageRecord:
    parts = {"pushed": Pushed, "bases": BaseImage, "steps": ImageStep}
    made = {name: tuple(part(**each) for each in values[name]) for name, part in parts.items()}
    return ImageRecord(**values | made | {"tags": tuple(values["tags"])})


def _agent_from(values: dict[str, Any]) -> AgentRecord:
    job = values.get("job")
    return AgentRecord(**values | {"job": job and Job(**job)})
