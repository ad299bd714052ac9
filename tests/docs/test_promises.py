"""What `docs/guarantees.md` and `docs/operations.md` promise about messages, where no other test shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kombu import Connection

import celery_postgres  # noqa: F401  registers the schemes
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.embedded import EmbeddedPostgres

QUEUE = "promised"


def declared(connection: Connection) -> Any:
    """A channel on which the queue exists."""
    channel = connection.channel()
    channel.queue_declare(QUEUE, durable=True, auto_delete=False)
    return channel


def publish(channel: Any, body: bytes = b"body", **properties: Any) -> None:
    message = channel.prepare_message(body, content_type="text/plain", properties=dict(properties))
    channel.basic_publish(message, exchange="", routing_key=QUEUE)


def vanish(database: psycopg.Connection[Any], connection: Connection) -> None:
    """End the sessions of the connection's consumer, as the end of its process does."""
    connection.transport.intake.lookout.stop()
    connection.transport._maintenance.stop()
    pid = connection.transport.intake.session.backend_pid
    database.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as database:
        yield database


@pytest.fixture
def sweeper(database_url: str) -> Iterator[Connection]:
    """Somebody who consumes another queue, and so looks after those that are gone."""
    with Connection(f"{database_url}?grace=0.1&max_deliveries=2") as connection:
        channel = connection.channel()
        channel.queue_declare("elsewhere", durable=True, auto_delete=False)
        channel.basic_consume("elsewhere", callback=lambda _: None)
        yield connection


def test_crash_of_the_server_loses_no_message(embedded_server: EmbeddedPostgres) -> None:
    """Killed right after a publish, the server has the message, although its default is not to wait."""
    with psycopg.connect(embedded_server.url, autocommit=True) as database:
        # Nothing but a commit that waits brings the log to the disk soon.
        database.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        database.execute("ALTER SYSTEM SET synchronous_commit = off")
        database.execute("SELECT pg_reload_conf()")
    with Connection(embedded_server.url) as connection:
        channel = declared(connection)
        for _ in range(20):
            publish(channel)
        embedded_server.crash()
    embedded_server.start()
    with Connection(embedded_server.url) as connection:
        assert declared(connection).queue_declare(QUEUE, passive=True).message_count == 20


def test_consumer_that_vanishes_gives_its_messages_back(
    database_url: str, database: psycopg.Connection[Any], sweeper: Connection
) -> None:
    """What a consumer held that is gone is given to another, marked as redelivered."""
    with Connection(database_url) as holder, Connection(database_url) as other:
        channel = declared(holder)
        publish(channel)
        held = channel.basic_get(QUEUE)
        assert not held.delivery_info["redelivered"]
        vanish(database, holder)
        got: list[Any] = []
        declared(other).basic_consume(QUEUE, callback=got.append)
        other.drain_events(timeout=15)
        assert [message.body for message in got] == [held.body]
        assert got[0].delivery_info["redelivered"]


def test_killed_too_often_ends_in_dead_letter(
    database_url: str, database: psycopg.Connection[Any], sweeper: Connection
) -> None:
    """After `max_deliveries` to consumers that vanished, a message is set aside with its body."""
    with Connection(database_url) as connection:
        publish(declared(connection), b"poison")
    for _ in range(2):
        with Connection(database_url) as victim:
            channel = declared(victim)
            eventually(lambda channel=channel: channel.basic_get(QUEUE))  # type: ignore[misc]
            vanish(database, victim)
    query = "SELECT reason, deliveries, body FROM celery.dead_letter JOIN celery.message ON id = message_id"
    eventually(lambda: database.execute(query).fetchone() == ("max_deliveries", 2, b"poison"))
    with Connection(database_url) as connection:
        assert declared(connection).basic_get(QUEUE) is None


def test_rejected_message_can_be_kept(database_url: str, database: psycopg.Connection[Any]) -> None:
    """With `keep_rejected` a rejected message without a dead-letter exchange stays, with its body."""
    with Connection(f"{database_url}?keep_rejected=true") as connection:
        channel = declared(connection)
        publish(channel, b"refused")
        channel.basic_get(QUEUE).reject()
    query = "SELECT queue, reason, body FROM celery.dead_letter JOIN celery.message ON id = message_id"
    assert database.execute(query).fetchall() == [(QUEUE, "rejected", b"refused")]


@pytest.mark.filterwarnings("ignore")
def test_publication_for_all_tables(database_url: str, database: psycopg.Connection[Any]) -> None:
    """A publication of everything, which forbids to delete from a table without a key, does no harm here."""
    with Connection(database_url) as connection:
        channel = declared(connection)
        try:
            database.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        except psycopg.errors.InsufficientPrivilege:
            pytest.skip("only a superuser may publish all tables")
        publish(channel)
        channel.basic_get(QUEUE).ack()
        publish(channel)
        channel.basic_get(QUEUE).requeue()
        assert channel.queue_purge(QUEUE) == 1
