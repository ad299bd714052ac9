"""What people ask about jobs is found by an index, however many wait and however many have ended.

The views are asked as from psql, with the server's own settings; the commands' statements as our sessions
prepare them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres import dsn, schema
from celery_postgres.connection import Database
from celery_postgres.options import Options
from celery_postgres.sql import dead, jobs

from . import job_backlog
from .plan import Case, Plan, explain

if TYPE_CHECKING:
    from collections.abc import Iterator

BIG = frozenset({"message", "result"})

#: Query, and how many pages it may look at.
VIEWS = {
    "waiting job by id": ("SELECT * FROM celery.job WHERE id = 'message 77'", 150),
    "ended job by id": ("SELECT * FROM celery.job WHERE id = 'result 77'", 150),
    "unknown id": ("SELECT * FROM celery.job WHERE id = 'nothing'", 30),
    "the newest": ("SELECT * FROM celery.job ORDER BY created_on DESC LIMIT 20", 4000),
    "the newest of a time": (
        "SELECT * FROM celery.job WHERE created_on < now() - interval '1 h' ORDER BY created_on DESC LIMIT 9",
        4000,
    ),
}

ANY = ("-infinity", "infinity", None, None)
ANY_DEAD = (None, None, None, "-infinity", "infinity")
CASES = [
    Case(jobs.QUEUES, (), 4000, whole=frozenset({"delayed", "unacked", "dead_letter"}), rows=100_100),
    Case(jobs.LIST, (*ANY, 20), 1500),
    Case(jobs.LIST, ("2000-01-01", "2000-01-02", None, None, 20), 100, "of a time"),
    Case(jobs.LIST_UNDATED, (*ANY, 20, None), 100),
    Case(jobs.LIST_ENDED, (*ANY, 20, "failed", "FAILURE"), 3000, rows=300),
    Case(jobs.LIST_WAITING, (*ANY, 20, "created"), 1500),
    Case(jobs.LIST_WAITING, (*ANY, 20, "retry"), 10_000, "retry", rows=6100),
    Case(jobs.LIST_WAITING, (*ANY, 20, "scheduled"), 30_000, "scheduled", rows=3000),
    Case(jobs.LIST_HELD, (*ANY, 20, "dead"), 5000, "dead", whole=frozenset({"dead_letter"}), rows=1100),
    Case(jobs.FIND, ("message 77",), 120),
    Case(jobs.FIND_MESSAGE, ("message 77",), 60),
    Case(jobs.FIND_RESULT, ("result 77",), 10),
    Case(jobs.LOCK_WAITING, ("message 77",), 60),
    Case(jobs.DROP_WAITING, ([77],), 60),
    Case(dead.LIST, (*ANY_DEAD, 20), 150),
    Case(dead.LIST, (None, None, None, "2000-01-01", "2000-01-02", 20), 10, "of a time"),
    Case(dead.COUNT, ANY_DEAD, 2000, rows=200),
    Case(dead.PICK, (*ANY_DEAD, 50_000, 50), 300),
    Case(dead.IDENTIFY, ([2, 502], ["message 77"]), 60),
    Case(dead.READ, ([2, 502],), 20),
    Case(dead.REDRIVE, ([2, 502], None, False), 150),
    Case(dead.DISCARD, ([2, 502],), 60),
    Case(dead.TRIM, (3600.0, 1000), 20),
]


@pytest.fixture(scope="module")
def url(module_database_url: str) -> str:
    """A database with many jobs, and statistics of them."""
    schema.upgrade(dsn.parse(module_database_url), "celery")
    with psycopg.connect(module_database_url, autocommit=True) as connection:
        connection.execute(job_backlog.TOPOLOGY.encode())
        connection.execute(job_backlog.JOBS_AND_RESULTS.encode())
        connection.execute("VACUUM ANALYZE")
    return module_database_url


@pytest.fixture(scope="module")
def plans(url: str) -> Iterator[dict[str, Plan]]:
    session, _ = Database(dsn.parse(url), Options()).open()
    yield {case.id: explain(session, case.statement, case.values) for case in CASES}
    session.close()


@pytest.mark.parametrize("what", VIEWS)
def test_view(url: str, what: str) -> None:
    """The view is not walked through for a few of its rows."""
    query, buffers = VIEWS[what]
    with psycopg.connect(url) as connection:
        plan = explained(connection, query)
    assert not plan.read_whole & BIG, plan
    assert plan.buffers <= buffers, plan
    assert plan.scanned_rows <= 5000, plan


@pytest.mark.parametrize("what", VIEWS)
def test_view_of_what_runs_again(url: str, what: str) -> None:
    """The same for jobs that have ended before: their claims are looked up, and nothing is walked through."""
    query, buffers = VIEWS[what]
    with psycopg.connect(url) as connection:
        connection.execute(job_backlog.ENDED_BEFORE.encode())
        plan = explained(connection, query)
        connection.rollback()
    assert not plan.read_whole & BIG, plan
    assert plan.buffers <= buffers, plan
    assert plan.scanned_rows <= 5000, plan


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_command(plans: dict[str, Plan], case: Case) -> None:
    """The commands' statements look at few rows."""
    plan = plans[case.id]
    assert plan.read_whole <= case.whole, plan
    assert plan.scanned_rows <= case.rows, plan
    assert plan.buffers <= case.buffers, plan


def test_counts(url: str) -> None:
    """Counting reads each table, and neither looks up each job nor comes to another number."""
    with psycopg.connect(url) as connection:
        quick = dict(connection.execute("SELECT state, jobs FROM celery.job_stats").fetchall())
        slow = dict(connection.execute("SELECT state, count(*) FROM celery.job GROUP BY state").fetchall())
        assert quick == slow
        assert sum(quick.values()) == 2 * job_backlog.JOBS
        assert explained(connection, "SELECT * FROM celery.job_stats").buffers < job_backlog.JOBS
        connection.execute(job_backlog.ENDED_BEFORE.encode())
        again = dict(connection.execute("SELECT state, jobs FROM celery.job_stats").fetchall())
        slow = dict(connection.execute("SELECT state, count(*) FROM celery.job GROUP BY state").fetchall())
        assert again == slow == quick
        assert explained(connection, "SELECT * FROM celery.job_stats").buffers < 1.2 * job_backlog.JOBS
        connection.rollback()


def explained(connection: psycopg.Connection, query: str) -> Plan:
    found = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}".encode()).fetchone()
    assert found is not None
    return Plan(found[0][0])
