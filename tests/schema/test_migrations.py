"""Setting the schema up: by whom, how often and under which name does not matter."""

from __future__ import annotations

import itertools
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click.testing import CliRunner
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.pool import NullPool

from celery_postgres import dsn, schema, tables
from celery_postgres.cli import main
from celery_postgres.connection import Database
from celery_postgres.options import Options

from .catalog import describe, traces

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def url(empty_module_database_url: str) -> str:
    """A database that the tests of this module share, each with schemas of its own."""
    return empty_module_database_url


@pytest.fixture(params=["jobs", "select"], ids=["plain", "keyword"])
def name(request: pytest.FixtureRequest, url: str) -> Iterator[str]:
    """A schema that does not exist; one has a name that is a word of SQL."""
    free = request.param if request.param == "select" else f"jobs_{next(_numbers)}"
    yield free
    drop(url, free)


@pytest.fixture
def plain(url: str) -> Iterator[str]:
    """A schema that does not exist."""
    free = f"plain_{next(_numbers)}"
    yield free
    drop(url, free)


def upgrade(url: str, name: str) -> None:
    schema.upgrade(dsn.parse(url), name)


def set_up(url: str, name: str, version: str) -> None:
    """Make the schema of an earlier release."""
    whole = schema.script(name)
    step = f"-- Running upgrade {version} ->"
    earlier = whole[: whole.index(step)] + "COMMIT;" if step in whole else whole
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(earlier.encode())
    assert execute(url, "SELECT version_num FROM {}.schema_version", name) == [(version,)]


def execute(url: str, query: str, *names: str) -> list[tuple[object, ...]]:
    """Run statements, with identifiers in place of `{}`."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql.SQL(query).format(*map(sql.Identifier, names)))
        return cursor.fetchall() if cursor.description else []


def drop(url: str, name: str) -> None:
    execute(url, "DROP SCHEMA IF EXISTS {} CASCADE", name)


@contextmanager
def differences(url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What alembic would change to make the database what `tables.py` says."""
    monkeypatch.setitem(ischema_names, "xid8", tables.Xid8)
    engine = create_engine(dsn.parse(url).sqlalchemy(), poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": lambda found, kind, _: kind != "schema" or found == name,
                "version_table": "schema_version",
                "version_table_schema": name,
                "compare_type": True,
            },
        )
        yield compare_metadata(context, tables.metadata(name))


@pytest.mark.smoke
def test_migrated_database_is_what_this_release_believes(url, name, monkeypatch) -> None:
    """`tables.metadata()` and the migrations describe the same tables, whatever the schema is called."""
    upgrade(url, name)
    with differences(url, name, monkeypatch) as found:
        assert found == []


def test_comparison_sees_a_difference(url, plain, monkeypatch) -> None:
    """The test above would notice a column, an index and a type that are not what is believed."""
    upgrade(url, plain)
    execute(url, "ALTER TABLE {}.consumer ALTER lock_key TYPE integer, ADD surplus text", plain)
    execute(url, "DROP INDEX {}.message_expiry_idx", plain)
    with differences(url, plain, monkeypatch) as found:
        assert all(word in str(found) for word in ("surplus", "message_expiry_idx", "modify_type"))


def test_twenty_processes_set_up_at_once(url, plain) -> None:
    """All succeed, and the schema is there once."""
    arguments = [sys.executable, "-m", "tests.schema.migrators", url, plain, "20"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout.strip() == "20 of 20 succeeded", done.stderr
    assert execute(url, "SELECT version_num FROM {}.schema_version", plain) == [(schema.VERSION,)]


def test_second_run_changes_nothing(url, plain) -> None:
    """An upgrade of what is up to date leaves the catalog as it was."""
    upgrade(url, plain)
    before = describe(url, plain)
    upgrade(url, plain)
    assert describe(url, plain) == before


def test_script_by_hand_makes_the_same(url, name) -> None:
    """Executing `migrate --sql` gives the schema that `migrate` gives, and a version that fits."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(schema.script(name).encode())
    by_hand = describe(url, name)
    assert execute(url, "SELECT version_num FROM {}.schema_version", name) == [(schema.VERSION,)]
    drop(url, name)
    upgrade(url, name)
    assert by_hand == describe(url, name)


@pytest.mark.parametrize("version", ["1.1", "1.4", "1.5", "1.7", schema.VERSION])
def test_script_by_hand_upgrades(url, plain, version) -> None:
    """`migrate --sql --from VERSION` brings a schema of an earlier release to where `migrate` brings it."""
    set_up(url, plain, version)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(schema.script(plain, present=version).encode())
    by_hand = describe(url, plain)
    assert execute(url, "SELECT version_num FROM {}.schema_version", plain) == [(schema.VERSION,)]
    drop(url, plain)
    upgrade(url, plain)
    assert by_hand == describe(url, plain)


def test_upgrade_keeps_what_reads_the_views(url, plain) -> None:
    """Who was granted a view may go on reading it, and a view of one's own over it stays."""
    set_up(url, plain, "1.7")
    execute(url, "GRANT SELECT ON {}.job TO pg_monitor", plain)
    execute(url, "CREATE VIEW {}.mine AS SELECT id, state FROM {}.job", plain, plain)
    upgrade(url, plain)
    assert execute(url, "SELECT version_num FROM {}.schema_version", plain) == [(schema.VERSION,)]
    assert execute(url, "TABLE {}.mine", plain) == []
    assert execute(url, f"SELECT has_table_privilege('pg_monitor', '{plain}.job', 'SELECT')") == [(True,)]


def test_script_for_another_version_changes_nothing(url, plain) -> None:
    """The SQL of an upgrade stops before it does anything where another version is there."""
    upgrade(url, plain)
    before = describe(url, plain)
    with psycopg.connect(url, autocommit=True) as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute(schema.script(plain, present="1.4").encode())
    assert f"schema {plain} does not have version 1.4" in str(refused.value)
    assert describe(url, plain) == before


def test_two_schemas_live_side_by_side(url, plain, name) -> None:
    """Two applications share a database, each with a schema of its own; neither refers to the other."""
    upgrade(url, plain)
    upgrade(url, name)
    assert describe(url, plain) == describe(url, name)
    drop(url, plain)
    session, server = Database(dsn.parse(url), Options(schema=name)).open()
    session.close()
    assert server.schema_version == schema.VERSION


def test_dropping_the_schema_leaves_nothing(url, plain) -> None:
    """One statement uninstalls: no extension, event trigger, setting or function stays behind."""
    before = traces(url)
    upgrade(url, plain)
    drop(url, plain)
    assert traces(url) == before
    assert describe(url, plain) == set()


def test_tables_of_the_application_stay_as_they_are(url, plain) -> None:
    """Neither names nor contents of other schemas are touched, also where tables are called the same."""
    mine = f"application_{plain}"
    execute(url, "CREATE SCHEMA {}", mine)
    execute(url, "CREATE TABLE {}.message AS SELECT 1 AS id, 'mine' AS body", mine)
    execute(url, "CREATE TABLE {}.schema_version AS SELECT 'mine' AS version_num", mine)
    before = describe(url, mine)
    upgrade(url, plain)
    drop(url, plain)
    assert describe(url, mine) == before
    assert execute(url, "TABLE {}.message", mine) == [(1, "mine")]
    assert execute(url, "TABLE {}.schema_version", mine) == [("mine",)]


def test_storage_parameters(url, plain) -> None:
    """Tables whose rows live for milliseconds are vacuumed by count, without pause, and never truncated."""
    upgrade(url, plain)
    options = {row[1]: str(row[4]) for row in describe(url, plain) if row[:1] == ("relation",)}
    for table in ("message", "ready", "unacked", "delayed", "broadcast"):
        for setting in ("vacuum_scale_factor=0", "vacuum_cost_delay=0", "vacuum_truncate=off"):
            assert setting in options[table], table
    assert options["consumer"] == "{fillfactor=50}"


def test_nothing_of_a_message_is_unlogged(url, plain) -> None:
    """A crash of the server empties unlogged tables: the broadcast log, and what tells of the crash."""
    upgrade(url, plain)
    relations = [row for row in describe(url, plain) if row[0] == "relation" and row[2] == "r"]
    assert {row[1] for row in relations if row[3] == "u"} == {"broadcast", "epoch"}


def test_names_of_constraints_are_given(url, plain) -> None:
    """Every constraint has the name that the metadata gives it, none that a server's version made up."""
    upgrade(url, plain)
    named = {constraint.name for table in tables.metadata().sorted_tables for constraint in table.constraints}
    found = {
        row[2]
        for row in describe(url, plain)
        if row[0] == "constraint" and row[3] != "f" and "schema_version" not in str(row[1])
    }
    assert found <= named


@pytest.mark.parametrize("name", ["celery", "shop_queue"])
def test_sql_needs_no_database(name: str) -> None:
    """`migrate --sql` prints what it would do, wherever the database is."""
    done = CliRunner(env={"DATABASE_URL": None}).invoke(main, ["--schema", name, "migrate", "--sql"])
    assert (done.exit_code, done.stdout) == (0, schema.script(name))
    done = CliRunner(env={"DATABASE_URL": None}).invoke(
        main, ["--schema", name, "migrate", "--sql", "--from", "1.5"]
    )
    assert (done.exit_code, done.stdout) == (0, schema.script(name, present="1.5"))
    done = CliRunner(env={"DATABASE_URL": None}).invoke(main, ["--schema", "Shop", "migrate", "--sql"])
    assert done.exit_code == 1
    assert "option 'schema' is 'Shop'" in done.stderr


def test_sql_of_an_unknown_version_is_refused() -> None:
    """`--from` takes what a release had, and belongs to `--sql`."""
    done = CliRunner(env={"DATABASE_URL": None}).invoke(main, ["migrate", "--sql", "--from", "1.6"])
    assert done.exit_code == 1
    assert "no release had version 1.6 of the schema, only 1.1, " in done.stderr
    done = CliRunner(env={"DATABASE_URL": None}).invoke(main, ["migrate", "--from", "1.5"])
    assert done.exit_code == 2
    assert "belong to --sql" in done.stderr
