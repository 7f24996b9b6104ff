"""What alembic runs to migrate: on the caller's connection and in its transaction, so that it is whole or not there."""

from __future__ import annotations

from alembic import context

# render_as_batch: SQLite alters a table by making a new one.
context.configure(connection=context.config.attributes["connection"], render_as_batch=True)
context.run_migrations()
