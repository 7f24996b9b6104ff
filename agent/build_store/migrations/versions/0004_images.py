"""Images: what an image build made, and which build asked for another from inside."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add both columns, and what they are looked up by."""
    op.add_column("builds", sa.Column("parent", sa.String(26)))
    op.add_column("builds", sa.Column("image", sa.JSON))
    op.create_index("builds_parent", "builds", ["parent"])
    op.create_index("builds_images", "builds", ["kind", "created_by", "id"])
