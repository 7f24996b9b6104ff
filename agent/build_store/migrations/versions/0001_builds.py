"""The builds table, which is the queue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table and its indexes."""
    op.create_table(
        "builds",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("secrets", sa.LargeBinary),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("request_digest", sa.String(64)),
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
        sa.Column("artifacts", sa.JSON, nullable=False),
        sa.Column("image_id", sa.String(255)),
        sa.UniqueConstraint("created_by", "idempotency_key", name="builds_idempotency"),
    )
    op.create_index("builds_queue", "builds", ["state", sa.text("priority DESC"), "id"])
    op.create_index("builds_by_state", "builds", ["state", "id"])
    op.create_index("builds_concurrency", "builds", ["concurrency_key", "state"])
    op.create_index("builds_retention", "builds", ["finished_at"])
