"""The build store's schema through time, for alembic. The files in `versions` are never changed, only added to."""
