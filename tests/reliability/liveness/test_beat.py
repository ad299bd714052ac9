"""The sign of life, and where it goes when there is no session for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres import dsn, schema
from celery_postgres.connection import Database
from celery_postgres.liveness import Incarnation
from celery_postgres.maintenance import Maintenance
from celery_postgres.options import Options
from celery_postgres.wakeup import Bell
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from celery_postgres.wire import Call


def test_worker_without_a_second_session_beats_over_the_first(database_url: str) -> None:
    """No connection was left for it; it is alive all the same, and must not be fenced."""
    schema.upgrade(dsn.parse(database_url), "celery")
    session, _ = Database(dsn.parse(database_url), Options()).open()
    incarnation = Incarnation()
    session.run(*incarnation.register(pooled=False))
    nowhere = Database(dsn.parse("postgresql://postgres@127.0.0.1:1/postgres"), Options())
    dead: list[None] = []

    def aside(call: Call) -> None:
        session.run(call)

    maintenance = Maintenance(
        nowhere,
        Bell("celery"),
        incarnation,
        on_declared_dead=lambda _: dead.append(None),
        beat_aside=aside,
        consumed=list,
        on_deleted=lambda _: None,
    )
    with psycopg.connect(database_url, autocommit=True) as watcher:

        def has_beaten() -> bool:
            row = watcher.execute("SELECT beat_at > started_at FROM celery.consumer").fetchone()
            return row == (True,)

        assert not has_beaten()
        maintenance.start()
        eventually(has_beaten)
    maintenance.stop()
    session.close()
    assert dead == []


def test_second_session_without_its_lock_is_none(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """The server refuses the lock at first, as it would to the server's idea of a lost session."""
    schema.upgrade(dsn.parse(database_url), "celery")
    database = Database(dsn.parse(database_url), Options.parse({"lock_timeout": 0.2}))
    session, _ = database.open()
    incarnation = Incarnation()
    session.run(*incarnation.register(pooled=False))
    with psycopg.connect(database_url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [incarnation.beat_key])
        maintenance = Maintenance(
            database,
            Bell("celery"),
            incarnation,
            on_declared_dead=lambda _: None,
            beat_aside=session.run,
            consumed=list,
            on_deleted=lambda _: None,
        )
        maintenance.start()
        eventually(lambda: "lock timeout" in caplog.text)
        holder.execute("SELECT pg_advisory_unlock(%s)", [incarnation.beat_key])

        def held() -> bool:
            row = holder.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
                " AND mode = 'ExclusiveLock' AND (classid::bigint << 32 | objid::bigint) = %s",
                [incarnation.beat_key],
            ).fetchone()
            return row == (1,)

        eventually(held)
    maintenance.stop()
    session.close()


@pytest.mark.parametrize("crashed", [False, True])
def test_beat_that_finds_its_consumer_gone(database_url: str, *, crashed: bool) -> None:
    """It was declared dead, and hears whether a crash of the server came with that."""
    schema.upgrade(dsn.parse(database_url), "celery")
    database = Database(dsn.parse(database_url), Options())
    session, _ = database.open()
    incarnation = Incarnation()
    incarnation.registered(session.run(*incarnation.register(pooled=False)))
    session.close()
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("DELETE FROM celery.consumer")
        if crashed:
            other.execute("UPDATE celery.epoch SET id = gen_random_uuid()")
    dead: list[bool] = []
    maintenance = Maintenance(
        database,
        Bell("celery"),
        incarnation,
        on_declared_dead=dead.append,
        beat_aside=lambda _: None,
        consumed=list,
        on_deleted=lambda _: None,
    )
    maintenance.start()
    eventually(lambda: dead)
    maintenance.stop()
    assert dead == [crashed]
