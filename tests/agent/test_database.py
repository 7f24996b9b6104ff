"""One service per file, the schema that this code needs, and a sentence for every way in which a disk can fail."""

import resource
import shutil
import sqlite3
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from agent.build_store.database import MIGRATIONS, Database, newest_revision, upgrade
from agent.build_store.table import metadata
from agent.errors import StoreUnavailable

ROOT = Path(__file__).parents[2]
REVISIONS = [script.revision for script in ScriptDirectory(MIGRATIONS).walk_revisions()]
PRIVATE = "what-was-asked-for"


@pytest.fixture
def database(path):
    with closing(Database(path)) as database:
        with database.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE notes (text TEXT)")
        yield database


def write(database, text="x"):
    with database.writing() as connection:
        connection.execute(sa.text("INSERT INTO notes VALUES (:text)"), {"text": text})


def notes(database):
    with database.reading() as connection:
        return list(connection.exec_driver_sql("SELECT text FROM notes").scalars())


def fail_after(database, work):
    with database.writing() as connection:
        work(connection)
        raise ZeroDivisionError


@contextmanager
def full_disk():
    """No file of this process can grow: what a write meets on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestSchema:
    def differences(self, database):
        with database.reading() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            return compare_metadata(context, metadata)

    def test_migrations_make_the_tables_that_the_code_means(self, path):
        with closing(Database(path)) as database:
            assert self.differences(database) == []
            with database.reading() as connection:
                made = dict(connection.exec_driver_sql("SELECT name, sql FROM sqlite_master").all())
        for index in metadata.tables["builds"].indexes:  # with the columns' order, which reflection does not tell
            assert made[index.name] == str(sa.schema.CreateIndex(index))

    @pytest.mark.parametrize("revision", REVISIONS)
    def test_a_store_of_any_age_is_brought_up_to_date(self, path, revision):
        engine = sa.create_engine(f"sqlite:///{path}")
        with engine.begin() as connection:
            upgrade(connection, revision)
        engine.dispose()
        with closing(Database(path)) as database:
            assert self.differences(database) == []

    def test_files_are_named_after_their_revisions_one_after_the_other(self):
        names = sorted(file.name for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))
        assert [name[:5] for name in names] == [f"{revision}_" for revision in reversed(REVISIONS)]
        assert newest_revision() == REVISIONS[0]

    def test_an_upgrade_that_is_cut_off_leaves_nothing(self, database):
        with database.writing() as connection:
            for table in ("builds", "exchanges", "alembic_version"):
                connection.exec_driver_sql(f"DROP TABLE {table}")
        with pytest.raises(ZeroDivisionError):
            fail_after(database, upgrade)
        with database.reading() as connection:
            assert sa.inspect(connection).get_table_names() == ["notes"]

    def test_a_store_of_a_newer_version_is_refused(self, path):
        with closing(Database(path)) as database, database.writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(StoreUnavailable, match=r"newer Sibling.*9999.*Install"):
            Database(path)

    def test_a_schema_that_is_up_to_date_costs_no_alembic(self, path):
        Database(path).close()
        program = (
            "import sys; from pathlib import Path; from agent.build_store.database import Database\n"
            "Database(Path(sys.argv[1])).close(); print('alembic' in sys.modules)"
        )
        ran = subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, check=True)
        assert ran.stdout == b"False\n"

    def test_a_folder_with_odd_characters_will_do(self, tmp_path):
        folder = tmp_path / "50% of #it? 'ä'"
        folder.mkdir()
        Database(folder / "builds.db").close()
        assert (folder / "builds.db").stat().st_size > 0


class TestOneService:
    def test_a_second_one_is_refused_until_the_first_has_closed(self, path):
        first = Database(path)
        with pytest.raises(StoreUnavailable, match=r"in use by another service\. Stop that one"):
            Database(path)
        first.close()
        Database(path).close()

    def test_one_that_could_not_open_lets_go(self, path):
        path.write_bytes(b"no database at all" * 1000)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"not a database.*put a backup in its place"):
                Database(path)
        path.unlink()
        Database(path).close()

    def test_after_the_close_nothing_is_read_or_written(self, database):
        database.close()
        database.close()
        for ask in (lambda: notes(database), lambda: write(database), database.check):
            with pytest.raises(StoreUnavailable, match="is closed"):
                ask()

    def test_a_close_waits_for_the_writer(self, database, path):
        with ThreadPoolExecutor(1) as pool:
            with database.writing() as connection:
                closed = pool.submit(database.close)
                connection.exec_driver_sql("INSERT INTO notes VALUES ('last')")
                with pytest.raises(StoreUnavailable, match="in use"):
                    Database(path)
            closed.result()
        with closing(Database(path)) as again:
            assert notes(again) == ["last"]

    def test_others_cannot_read_the_files(self, database, path):
        write(database)
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        assert modes == dict.fromkeys(["builds.db", "builds.db-shm", "builds.db-wal", "builds.db.lock"], 0o600)

    def test_a_missing_folder_is_told(self, tmp_path):
        with pytest.raises(StoreUnavailable, match="nowhere"):
            Database(tmp_path / "nowhere" / "builds.db")


class TestTransactions:
    def test_every_connection_waits_for_the_disk_and_wipes(self, database):
        def settings(_):
            with database.reading() as connection:
                names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
                return [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(settings, range(20))) == [["wal", 2, 1, 1]] * 20

    def test_a_reader_sees_what_was_committed_and_does_not_wait_for_a_writer(self, database):
        with database.writing() as connection:
            connection.exec_driver_sql("INSERT INTO notes VALUES ('new')")
            assert notes(database) == []
        assert notes(database) == ["new"]

    def test_what_raised_is_undone(self, database):
        with pytest.raises(ZeroDivisionError):
            fail_after(database, lambda connection: connection.exec_driver_sql("INSERT INTO notes VALUES ('half')"))
        write(database, "whole")
        assert notes(database) == ["whole"]

    def test_many_writers_take_turns(self, database):
        def add(number):
            for _ in range(10):
                write(database, str(number))

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(add, range(12)))
        assert sorted(notes(database)) == sorted([str(number) for number in range(12)] * 10)

    def test_a_writer_is_alone_from_its_first_statement_on(self, database, path):
        locked = pytest.raises(sqlite3.OperationalError, match="locked")
        with closing(sqlite3.connect(path, timeout=0)) as stranger, database.writing(), locked:
            stranger.execute("INSERT INTO notes VALUES ('theirs')")

    def test_a_stranger_with_a_transaction_is_waited_for(self, database, path):
        with closing(sqlite3.connect(path, isolation_level=None)) as stranger, ThreadPoolExecutor(1) as pool:
            stranger.execute("BEGIN IMMEDIATE")
            stranger.execute("INSERT INTO notes VALUES ('theirs')")
            ours = pool.submit(write, database, "ours")
            stranger.execute("COMMIT")
            ours.result()
        assert notes(database) == ["theirs", "ours"]


class TestFailures:
    def test_a_disk_that_takes_no_more_is_told_and_recovered_from(self, database, path):
        write(database, "before")
        with full_disk():
            with pytest.raises(StoreUnavailable, match=rf"build store {path} failed.*disk"):
                write(database, "lost")
            with pytest.raises(StoreUnavailable):
                database.check()
            assert notes(database) == ["before"]
        database.check()
        write(database, "after")
        assert notes(database) == ["before", "after"]

    def test_a_full_file_is_told_without_what_was_asked(self, database):
        with database.reading() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreUnavailable, match="Free some space on its disk") as raised:
            write(database, PRIVATE * 10_000)
        assert PRIVATE not in "".join(traceback.format_exception(raised.value))

    def test_a_check_passes_again_and_again_and_changes_no_data(self, database):
        write(database)
        for _ in range(3):
            database.check()
        assert notes(database) == ["x"]

    def test_a_check_notices_that_the_file_was_removed_or_replaced(self, database, path):
        copy = path.with_name("copy")
        shutil.copy(path, copy)
        path.unlink()
        with pytest.raises(StoreUnavailable, match="No such file"):
            database.check()
        copy.rename(path)
        with pytest.raises(StoreUnavailable, match="replaced while in use"):
            database.check()

    def test_a_damaged_file_is_told(self, path):
        with closing(Database(path)) as database, database.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE notes (text TEXT)")
        content = path.read_bytes()
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
        with pytest.raises(StoreUnavailable, match=r"malformed.*put a backup"):
            Database(path)
