"""What waits for the disk before it returns, and what is seen by others meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from celery import states
from celery.result import AsyncResult
from psycopg import sql

from celery_postgres.chords import Part
from celery_postgres.results import Encoded
from celery_postgres.sql import Statement
from celery_postgres.wakeup import ResultBell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

# A deferred trigger runs as the first part of the commit: it sees what the commit will go by, and where the
# log ends.
WATCH = """
CREATE TABLE watched (number bigserial, synchronous_commit text, written pg_lsn);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$ BEGIN
    INSERT INTO watched (synchronous_commit, written)
    VALUES (current_setting('synchronous_commit'), pg_current_wal_insert_lsn());
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER watch AFTER INSERT OR UPDATE ON celery.{table} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION watch();
"""

#: The server writes its log by itself now and then: once may be by chance.
TIMES = 20


class Disk:
    """Watches one table of a database."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def watch(self, table: str) -> None:
        self._connection.execute(WATCH.format(table=table).encode())

    def let_nothing_wait(self) -> None:
        """In sessions that begin from now on."""
        name = sql.Identifier(self._connection.info.dbname)
        self._connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))

    def last_commit(self) -> tuple[str, bool]:
        """Its setting of synchronous_commit, and whether the disk has what it wrote."""
        row = self._connection.execute(
            "SELECT synchronous_commit, written <= pg_current_wal_flush_lsn()"
            "  FROM public.watched ORDER BY number DESC LIMIT 1"
        ).fetchone()
        assert row is not None
        return row[0], row[1]


@pytest.fixture
def disk(app: Celery, database_url: str) -> Iterator[Disk]:
    app.backend.store_result("first", 0, states.SUCCESS)  # the tables are made
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield Disk(connection)


def expect_somebody(app: Celery) -> None:
    """As if a result had been waited for a moment ago."""
    app.backend._results._hurry_until = float("inf")


def test_final_state_waits_for_the_disk(app: Celery, disk: Disk) -> None:
    disk.watch("result")
    for number in range(TIMES):
        app.backend.store_result(f"a{number}", 1, states.SUCCESS)
        assert disk.last_commit() == ("on", True)


@pytest.mark.parametrize("way", ["directly", "behind a pooler"])
def test_final_state_waits_for_the_disk_whatever_the_role_has(
    new_app: Callable[..., Celery], disk: Disk, database_url: str, way: str
) -> None:
    """Nobody waits for the result, and the database, or the role, says that nothing waits."""
    disk.watch("result")
    disk.let_nothing_wait()
    app = new_app(f"{database_url}?pooled={'false' if way == 'directly' else 'true'}")
    for number in range(TIMES):
        app.backend.store_result(f"a{number}", 1, states.SUCCESS)
        assert disk.last_commit() == ("on", True)


def test_final_state_that_is_waited_for_is_seen_before_it_is_on_disk(app: Celery, disk: Disk) -> None:
    disk.watch("result")
    expect_somebody(app)
    for number in range(TIMES):
        app.backend.store_result(f"a{number}", 1, states.SUCCESS)
        assert disk.last_commit() == ("off", True)


@pytest.mark.parametrize("state", [states.STARTED, states.RETRY, "PROGRESS"])
def test_state_on_the_way_does_not_wait_for_the_disk(app: Celery, disk: Disk, state: str) -> None:
    disk.watch("result")
    app.backend.store_result("a", {"step": 1}, state)
    assert disk.last_commit()[0] == "off"
    app.backend.store_result("a", 1, states.SUCCESS)
    assert disk.last_commit() == ("on", True)


def test_parts_of_a_chord_do_not_wait_for_each_others_disk(app: Celery, disk: Disk) -> None:
    """The lock of their chord is held until the commit, which waits for nothing; who returns a part does."""
    disk.watch("chord_part")
    app.backend.set_chord_size("chord", TIMES + 1)
    for number in range(TIMES):
        part = Part(
            "chord", number, f"part{number}", states.SUCCESS, Encoded("application/json", "utf-8", b"1")
        )
        assert app.backend._chords.return_part(part, None).verdict == "counted"
        assert disk.last_commit() == ("off", True)


@pytest.mark.parametrize("awaited", [False, True])
def test_bell_that_is_refused_keeps_no_result_back(
    app: Celery, monkeypatch: pytest.MonkeyPatch, awaited: bool
) -> None:
    """As when the notifications that nobody reads have filled the server's queue."""
    refused = Statement("refused", "SELECT 1 / (SELECT 0)")
    app.backend.store_result("first", 0, states.SUCCESS)
    if awaited:
        expect_somebody(app)
    monkeypatch.setattr(ResultBell, "ring", lambda *_: (refused, ()))
    app.backend.store_result("a", 1, states.SUCCESS)
    assert AsyncResult("a", app=app).state == states.SUCCESS
