"""A second session, which a test leads by the hand: it stops between any two statements."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import psycopg

from celery_postgres.process import Process
from celery_postgres.sql import Statement, consumers, messages, topology
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

#: A process that nobody here can see.
ELSEWHERE = Process("elsewhere", 1)

Row = tuple[Any, ...]
Held = list[tuple[int, int]]
"""Message ids, each with its delivery number."""


class Hand:
    """Executes our statements in a transaction of its own, or, outside one, each by itself."""

    def __init__(self, url: str, schema: str = "celery") -> None:
        self._schema = schema
        self.connection = psycopg.connect(url, autocommit=True, cursor_factory=psycopg.RawCursor)
        self.id = uuid.uuid4()
        """Of the consumer that it is, once it has registered."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    # -- anything ------------------------------------------------------------------------------------

    def sql(self, query: str, *values: object) -> list[Row]:
        cursor = self.connection.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *values: object) -> Any:
        return self.sql(query, *values)[0][0]

    def run(self, statement: Statement, *values: object) -> list[Row]:
        return self.sql(statement.sql(self._schema), *values)

    def later(self, statement: Statement, *values: object) -> Future[list[Row]]:
        """The same in a thread; returns once the server says that it waits for somebody's lock."""
        outcome: Future[list[Row]] = Future()

        def work() -> None:
            try:
                outcome.set_result(self.run(statement, *values))
            except psycopg.Error as error:
                outcome.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        pid = self.connection.info.backend_pid
        with psycopg.connect(self.connection.info.dsn, password=self.connection.info.password) as watcher:

            def waits() -> bool:
                row = watcher.execute(
                    "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", [pid]
                ).fetchone()
                watcher.rollback()
                return bool(row and row[0])

            eventually(lambda: waits() or outcome.done(), what="a wait for a lock")
        assert not outcome.done(), "it did not have to wait"
        return outcome

    def begin(self) -> None:
        self.sql("BEGIN")

    def commit(self) -> None:
        self.sql("COMMIT")

    def rollback(self) -> None:
        self.sql("ROLLBACK")

    # -- the verbs -----------------------------------------------------------------------------------

    def queue(self, name: str, **columns: object) -> int:
        """Declare a queue of rows; returns its id."""
        values = [name, True, False, False, None, "{}", None, None, None, None, None, None, None, False]
        queue_id: int = self.run(topology.DECLARE_QUEUE, *values)[0][0]
        for column, value in columns.items():
            self.sql(f"UPDATE celery.queue SET {column} = $1 WHERE id = $2", value, queue_id)
        return queue_id

    def publish(self, queue: str, *, key: uuid.UUID | None = None, priority: int = 0) -> None:
        content = (None, None, None, None, None, "{}", "{}", b"x", None, "on")
        self.run(messages.PUBLISH_TO_QUEUE, key or uuid.uuid4(), "", queue, priority, *content)

    @property
    def lock_key(self) -> int:
        return int.from_bytes(self.id.bytes[:8], "big", signed=True)

    @property
    def beat_key(self) -> int:
        return int.from_bytes(self.id.bytes[8:], "big", signed=True)

    def register(
        self,
        *,
        pooled: bool = False,
        process: Process = ELSEWHERE,
        node: str | None = None,
        stall_s: float = 300,
    ) -> None:
        """Become a consumer, alive for as long as the session; it has no second one."""
        where = (process.host, process.pid, process.host_id, process.started)
        values = (self.id, self.lock_key, self.beat_key, pooled, *where, node, None, round(stall_s * 1000))
        self.run(consumers.BEGIN_EPOCH)
        self.run(consumers.REGISTER, *values)
        if not pooled:
            self.run(consumers.HOLD, self.lock_key)

    def beat(self) -> bool:
        """Whether it was heard."""
        return bool(self.run(consumers.BEAT, self.id))

    def claim(self, *queue_ids: int, count: int = 10) -> Held:
        rows = self.run(messages.CLAIM, self.id, list(queue_ids), count)
        return sorted((row[0], row[3]) for row in rows)

    def ack(self, held: Held, of: uuid.UUID | None = None) -> None:
        self._settle(messages.ACK, held, of)

    def release(self, held: Held, of: uuid.UUID | None = None) -> None:
        self._settle(messages.RELEASE, held, of)

    def reject(self, held: Held, of: uuid.UUID | None = None) -> None:
        self._settle(messages.REJECT, held, of, "rejected", True)

    def _settle(self, statement: Statement, held: Held, of: uuid.UUID | None, *more: object) -> None:
        self.run(statement, of or self.id, [id_ for id_, _ in held], [number for _, number in held], *more)

    # -- looking -------------------------------------------------------------------------------------

    def ready(self) -> list[int]:
        """The messages that wait, in the order in which they are claimed."""
        return [
            r[0] for r in self.sql("SELECT message_id FROM celery.ready ORDER BY priority DESC, message_id")
        ]

    def unacked(self) -> Held:
        return self.sql("SELECT message_id, deliveries FROM celery.unacked ORDER BY message_id")  # type: ignore[return-value]

    def count(self, table: str) -> int:
        count: int = self.value(f"SELECT count(*) FROM celery.{table}")
        return count
