"""The SQLite file under the build store: opened by one service at a time, migrated, its failures in sentences.

Threads share it. Writers wait for each other at a lock of ours: SQLite's own is polled with sleeps, and not fair.
Readers never wait for a writer (https://sqlite.org/wal.html).
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, create_engine, event, exc, inspect

from agent.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

MIGRATIONS = Path(__file__).parent / "migrations"

_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",  # NORMAL may lose the last commits when the power fails; we have answered for them
    "foreign_keys = ON",
    "secure_delete = ON",  # overwrite what is deleted: secrets
)
_BUSY_SECONDS = 30  # only a stranger, such as a backup tool, can make us wait at all
_READERS = 4
# https://sqlite.org/rescode.html, by the beginnings of the names
_CURES = {
    "SQLITE_FULL": "Free some space on its disk.",
    "SQLITE_IOERR": "Look at its disk and at the kernel's log.",
    "SQLITE_READONLY": "Let the service's user write to the file and its folder.",
    "SQLITE_CANTOPEN": "Let the service's user write to the file and its folder.",
    "SQLITE_CORRUPT": "Stop the service, keep the file, and put a backup in its place.",
    "SQLITE_NOTADB": "Stop the service, keep the file, and put a backup in its place.",
    "SQLITE_BUSY": "End the other program that holds it.",
    "SQLITE_LOCKED": "End the other program that holds it.",
}


def newest_revision() -> str:
    """The revision that this code needs: the highest of the migrations, which their files' names begin with."""
    return max(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))


class Database:
    """The open file. All methods may be called by many threads at once, and raise StoreUnavailable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._open = True
        with ExitStack() as undo, self._telling():
            undo.callback(os.close, _lock(path))
            path.touch(mode=0o600)  # the WAL and its index take its mode
            self._engine = _engine(path)
            undo.callback(self._engine.dispose)
            self._inode = path.stat().st_ino
            self._migrate()
            self._closing = undo.pop_all()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection on which every statement sees all that was committed before it."""
        with self._telling(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is alone: on the disk when the block has ended, undone if it raised."""
        with self._turn, self.reading() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    def check(self) -> None:
        """Commit a number that nobody reads: only a write shows that writes go through to the file that others see."""
        with self.writing() as connection:
            if self._path.stat().st_ino != self._inode:
                raise StoreUnavailable(f"The build store {self._path} was replaced while in use. Restart the service.")
            number: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            connection.exec_driver_sql(f"PRAGMA user_version = {(number + 1) % 2**31}")

    def close(self) -> None:
        """Wait for the writer, then let go of the file; closing twice is fine."""
        with self._turn:
            self._open = False
            self._closing.close()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn what the database and the disk say into a sentence."""
        if not self._open:
            raise StoreUnavailable(f"The build store {self._path} is closed: the service is stopping.")
        try:
            yield
        except exc.DBAPIError as error:
            name = str(getattr(error.orig, "sqlite_errorname", ""))
            cure = next((cure for prefix, cure in _CURES.items() if name.startswith(prefix)), "")
            raise StoreUnavailable(f"The build store {self._path} failed: {error.orig}. {cure}".rstrip()) from error
        except (exc.TimeoutError, OSError) as error:
            raise StoreUnavailable(f"The build store {self._path} failed: {error}.") from error

    def _migrate(self) -> None:
        newest = newest_revision()
        with self.reading() as connection:
            found = _revision(connection)
        if found == newest:
            return
        if found > newest:
            raise StoreUnavailable(
                f"The build store {self._path} was written by a newer Sibling: its schema is {found}, this one's "
                f"{newest}. Install that version again, or a newer one."
            )
        with self.writing() as connection:
            upgrade(connection)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the schema to the revision, in the connection's transaction."""
    # Here, since a service that finds its schema up to date can do without these 11 MB of code.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, revision)


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())


def _lock(path: Path) -> int:
    """Take the lock beside the file; the kernel gives it back when we close it or die, however we die."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StoreUnavailable(
            f"The build store {path} is in use by another service. Stop that one, or give this one its own data folder."
        ) from None
    return lock


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        # isolation_level None: the driver begins no transaction by itself; a statement outside of one commits at once.
        connect_args={"timeout": _BUSY_SECONDS, "isolation_level": None, "check_same_thread": False},
        pool_size=1 + _READERS,
        max_overflow=0,
        pool_use_lifo=True,  # the one used last has the pages in its cache
        hide_parameters=True,  # an error's text must not hold what was asked
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine
