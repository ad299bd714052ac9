"""Names of consumers, and of the schema. Those of queues, exchanges and keys: `transport/test_names.py`."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from kombu import Connection

from celery_postgres.errors import ConfigurationError
from celery_postgres.options import Options

NAMES = [
    'it\'s a "name"',
    "'; DROP SCHEMA celery CASCADE; --",
    "%s %(a)s {} {0} {s} $1 :a ?",
    "x" * 300,
    "\u202e\u05d0\u05d1",
    "\U0001f407\u200d\U0001f5a4",
    "",
]


@pytest.fixture(scope="module")
def url(empty_module_database_url: str) -> str:
    with Connection(empty_module_database_url) as connection:
        connection.connect()
    return empty_module_database_url


@pytest.mark.parametrize("tag", [name for name in NAMES if 0 < len(name) < 256])
def test_consumer_tag(url: str, tag: str) -> None:
    """Any text names a consumer: it is told with the delivery, and cancelled by it."""
    got: list[Any] = []
    with Connection(url) as connection, connection.channel() as channel:
        channel.queue_declare(queue="names", durable=True)
        channel.basic_consume("names", no_ack=True, callback=got.append, consumer_tag=tag)
        connection.Producer(channel).publish(1, routing_key="names")
        connection.drain_events(timeout=10)
        assert [message.delivery_info["consumer_tag"] for message in got] == [tag]
        channel.basic_cancel(tag)
        with psycopg.connect(url) as database:
            consumers = database.execute("SELECT tag FROM celery.consumer_queue").fetchall()
        assert consumers == []


@pytest.mark.parametrize("tag", ["a\0b", "\ud800", "x" * 300])
def test_impossible_consumer_tag(url: str, tag: str) -> None:
    """It is refused with an error of ours, and the connection goes on."""
    from celery_postgres.errors import Error

    with Connection(url) as connection, connection.channel() as channel:
        channel.queue_declare(queue="names", durable=True)
        with pytest.raises(Error, match=r"NUL|Unicode|255"):
            channel.basic_consume("names", no_ack=True, callback=print, consumer_tag=tag)
        assert channel.queue_declare(queue="names", durable=True).queue == "names"


IMPOSSIBLE = ["a\0b", "Celery", "a-b", "a b", "1a", "x" * 41, "\uff43elery", "public", "pg_temp"]


@pytest.mark.parametrize("schema", [*NAMES, *IMPOSSIBLE, "information_schema"])
def test_schema_that_is_refused(schema: str) -> None:
    """The one identifier that comes from outside is refused unless it is plain, with what would do."""
    with pytest.raises(ConfigurationError, match=r"1 to 40 lower-case letters|for this purpose alone"):
        Options.parse({"schema": schema})


def test_schema_in_the_url(url: str) -> None:
    """The same for one in the query."""
    with Connection(f'{url}?schema=a"b') as connection, pytest.raises(ConfigurationError, match="schema"):
        connection.connect()
