"""Agents beside builds: what kind a row is, and what became of an agent on the controller."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add both columns; every row so far is a build."""
    op.add_column("builds", sa.Column("kind", sa.String(16), nullable=False, server_default="build"))
    op.add_column("builds", sa.Column("agent", sa.JSON))
