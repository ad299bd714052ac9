"""What a claim reads while a transaction that is open keeps everything that was claimed since it began."""

from __future__ import annotations

import psycopg

from celery_postgres import dsn, schema
from celery_postgres.connection import Database
from celery_postgres.options import Options
from celery_postgres.sql import messages

from . import backlog
from .plan import explain

DEAD = 50_000


def test_a_claim_from_behind_does_not_pass_over_them(database_url: str) -> None:
    """It reads what a claim of a new queue does; one from the beginning reads all that is kept."""
    target = dsn.parse(database_url)
    schema.upgrade(target, "celery")
    with (
        psycopg.connect(database_url, autocommit=True) as observer,
        psycopg.connect(database_url) as report,
    ):
        observer.execute(
            f"{backlog.TOPOLOGY}; INSERT INTO celery.ready SELECT 1, 0, n, 0 FROM"
            f" generate_series(1, {DEAD + 1000}) n; ANALYZE celery.ready".encode()
        )
        report.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        report.execute("SELECT count(*) FROM celery.ready")
        observer.execute("DELETE FROM celery.ready WHERE message_id <= %s", [DEAD])
        session, _ = Database(target, Options()).open()
        try:
            whole = explain(session, messages.CLAIM, (backlog.CONSUMER, [1], 10))
            behind = explain(session, messages.CLAIM_BEHIND, (backlog.CONSUMER, [1], 10, [0], [DEAD - 100]))
        finally:
            session.close()
    assert whole.buffers > DEAD / 100
    assert behind.buffers < 400, behind
