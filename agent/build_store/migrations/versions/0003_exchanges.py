"""Exchanges: the tokens that builds of a controller got for their id tokens, each build's once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table and its index."""
    op.create_table(
        "exchanges",
        sa.Column("id", sa.String(8), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("build_number", sa.BigInteger, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("keep_until", sa.Double, nullable=False),
        sa.UniqueConstraint("issuer", "subject", "build_number", name="exchanges_once"),
    )
    op.create_index("exchanges_retention", "exchanges", ["keep_until"])
