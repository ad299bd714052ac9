"""Advisory locks outlive the transaction that took them: none may stay behind one that was refused."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres import dsn, schema
from celery_postgres.connection import Database
from celery_postgres.idleness import Idleness
from celery_postgres.listener import Listener
from celery_postgres.options import Options
from celery_postgres.sql import Statement
from celery_postgres.wakeup import Bell, ResultBell
from tests.fixtures.standby import execute
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery_postgres.wire import Call

HELD = """SELECT objid FROM pg_locks
 WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ShareLock'
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


class Refused(Bell):
    """Its locks are taken, and then the statement is refused, as by a time limit that strikes late."""

    def wait_idle(self, queue_ids: Iterable[int]) -> Call:
        statement, values = super().wait_idle(queue_ids)
        late = " UNION ALL SELECT 1 / count(*), false FROM pg_class WHERE relname = 'nothing of this name'"
        return Statement("late", statement.text + late), values


@pytest.fixture
def url(database_url: str) -> str:
    schema.upgrade(dsn.parse(database_url), "celery")
    return database_url


def bucket(task_id: str) -> int:
    return ResultBell.bucket(task_id)


def test_refused_subscription_to_results_holds_nothing(url: str) -> None:
    """Else whoever stores a result would go on telling a process that does not wait."""
    first, second = "a", next(f"b{n}" for n in range(99) if bucket(f"b{n}") > bucket("a"))
    listener = Listener(
        Database(dsn.parse(url), Options(lock_timeout=0.1, poll_interval=0.2, max_poll_interval=0.2)),
        lambda *_: False,
    )
    with psycopg.connect(url) as holder, listener.waiting():
        lock_class = ResultBell("celery")._lock_class
        holder.execute("SELECT pg_advisory_xact_lock(%s, %s)", (lock_class, bucket(second)))
        for task_id in (first, second):
            listener.begin(task_id)
        never = threading.Event()
        listener.wait(lambda: listener._session is not None and not listener._held, never, 10)
        listener.wait(lambda: not execute(url, HELD), never, 10)
        assert not execute(url, HELD)
        holder.rollback()
        listener._next_poll = 0.0
        listener.wait(lambda: bool(execute(url, HELD)), never, 10)
        assert len(execute(url, HELD)) == 2
    eventually(lambda: not execute(url, HELD), what="who leaves gives them back")
    listener.close()


def test_refused_wait_for_queues_holds_nothing(url: str) -> None:
    """Else publishers would ring for a consumer that is not idle."""
    session, _ = Database(dsn.parse(url), Options()).open()
    idleness = Idleness(session, Refused("celery"), listening=True)
    answered = threading.Event()
    idleness.on_begun = answered.set
    idleness.begin([1, 2])
    while not answered.is_set() or session.busy:
        session.wait_readable(1)
        session.pump()
    assert not execute(url, HELD)
    session.close()
