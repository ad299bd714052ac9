"""A long queue within seconds: copies of one message that was really published, made by the server.

Each copy has ids of its own in every place in which a publisher would write them, so rows and index entries
are as large and as scattered as after ten million calls of `delay()`.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_PIN = "none"
READER = "reader"
WRITER = "writer"
PINS = (NO_PIN, READER, WRITER)

# So many in one statement: neither memory nor a rollback grows with the size of the queue.
_PORTION = 100_000

_TEMPLATE = """
CREATE TEMP TABLE template AS
SELECT m.* FROM celery.message m JOIN celery.queue q ON q.id = m.queue_id
 WHERE q.name = %s AND convert_from(m.body, 'UTF8') LIKE '[[0, %%' LIMIT 1
"""

_COPIES = """
WITH copy AS (
    SELECT n, gen_random_uuid()::text AS task_id,
           (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
            || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid AS uuid
      FROM generate_series(%s::bigint, %s::bigint) AS n
), stored AS (
    INSERT INTO celery.message (uuid, queue_id, priority, exchange, routing_key, task, task_id, content_type,
                                content_encoding, headers, properties, body)
    SELECT c.uuid, t.queue_id, t.priority, t.exchange, t.routing_key, t.task, c.task_id, t.content_type,
           t.content_encoding, replace(t.headers, t.task_id, c.task_id),
           replace(t.properties, t.task_id, c.task_id),
           convert_to(overlay(convert_from(t.body, 'UTF8') PLACING '[[' || c.n FROM 1 FOR 3), 'UTF8')
      FROM copy c CROSS JOIN template t ORDER BY c.n
    RETURNING id, queue_id, priority
)
INSERT INTO celery.ready (queue_id, priority, message_id, deliveries)
SELECT queue_id, priority, id, 0 FROM stored
"""


class Filling:
    """The queue of one place, which is a database of its own; fill it, and clear it in the end."""

    def __init__(self, url: str, queue: str) -> None:
        self._url = url
        self._queue = queue

    def fill(self, count: int) -> float:
        """Replace what waits by `count` copies of the task 0 that was published; return rows per second.

        Vacuumed and written out afterwards, as they would be long since, had they come one by one.
        """
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(_TEMPLATE, (self._queue,))
            _truncate(connection)
            began = time.monotonic()
            for first in range(0, count, _PORTION):
                connection.execute(_COPIES, (first, min(first + _PORTION, count) - 1))
            took_s = time.monotonic() - began
            connection.execute("VACUUM (ANALYZE) celery.message, celery.ready")
            connection.execute("CHECKPOINT")
        return count / took_s

    def clear(self) -> None:
        """Remove every message, whoever holds it: those that used it have ended."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            _truncate(connection)


@contextmanager
def pinned(url: str, kind: str) -> Iterator[None]:
    """Keep a transaction open, so that nothing which dies meanwhile can be removed.

    A reader holds a snapshot; a writer has a transaction id, and neither does anything more.
    """
    with psycopg.connect(url) as connection:
        if kind == READER:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.execute("SELECT count(*) FROM celery.queue")
        else:
            connection.execute("SELECT pg_current_xact_id()")
        yield
        connection.rollback()


def _truncate(connection: psycopg.Connection) -> None:
    connection.execute(
        "TRUNCATE celery.message, celery.ready, celery.unacked, celery.delayed, celery.dead_letter"
    )
