"""What is not ridden out: an outage that is too long, and what no retry mends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from kombu import Connection

import celery_postgres  # noqa: F401  registers the schemes
from celery_postgres.errors import ConfigurationError, DatabaseUnavailable
from tests.fixtures.waiting import eventually

from .conftest import LATE, end_sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_postgres.embedded import EmbeddedPostgres
    from tests.fixtures.worker import Site


def consuming(url: str) -> Connection:
    connection = Connection(url)
    channel = connection.default_channel
    channel.queue_declare("limited", durable=True, auto_delete=False)
    channel.basic_consume("limited", callback=lambda _: None)
    return connection


def drained(connection: Connection) -> None:
    try:
        connection.drain_events(timeout=0.1)
    except TimeoutError:
        pass


def test_max_outage(embedded_server: EmbeddedPostgres) -> None:
    """After that long, and not before, whoever consumes is told; kombu may be quicker and connect anew."""
    with consuming(f"{embedded_server.url}?max_outage=1") as connection:
        begin = time.monotonic()
        embedded_server.halt()
        told = r"for longer than max_outage \(1 s\)|cannot connect to"
        with pytest.raises(DatabaseUnavailable, match=told):
            eventually(lambda: drained(connection))  # type: ignore[func-returns-value]
        assert time.monotonic() - begin >= 1
    embedded_server.start()


def test_failover_to_another_database(
    embedded_server: EmbeddedPostgres, database_url: str, new_site: Callable[..., Site]
) -> None:
    """With alternatives a worker goes on with the next one."""
    first, second = new_site(f"{embedded_server.url}?max_outage=1"), new_site(database_url)
    second.declare()
    settings = {"broker_url": f"{first.broker.url};{second.broker.url}", **LATE}
    worker = first.worker("-Q", "celery", **settings)
    before = first.send("record")
    first.record.wait_for_one(before)
    embedded_server.halt()
    after = second.send("record")
    first.record.wait_for([after], timeout_s=30)
    assert worker.alive
    embedded_server.start()


def test_password_that_was_changed(embedded_server: EmbeddedPostgres) -> None:
    """Waiting does not mend it: the one who consumes is told, with the remedy."""
    with psycopg.connect(embedded_server.url, autocommit=True) as admin:
        admin.execute("CREATE ROLE shop LOGIN PASSWORD 'one' SUPERUSER")
        url = f"postgresql://shop:one@127.0.0.1:{embedded_server.port}/postgres"
        connection = consuming(url)
        admin.execute("ALTER ROLE shop PASSWORD 'two'")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop'")
        with pytest.raises(ConfigurationError, match="correct user or password"):
            eventually(lambda: drained(connection))  # type: ignore[func-returns-value]
        connection.release()


def test_schema_that_is_gone(site: Site) -> None:
    """The worker ends, and says why."""
    worker = site.worker("-Q", "celery")
    with psycopg.connect(site.broker.url, autocommit=True) as admin:
        admin.execute("ALTER SCHEMA celery RENAME TO elsewhere")
    end_sessions(site.broker.url)
    worker.wait_for_line("cannot be had again: .*celery-postgres migrate")
    assert worker.wait(20) != 0
