"""What is published and what is claimed, as values; and how both become calls and come out of rows."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from .sql import messages as sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .encoding import Rows
    from .wire import Call


def time_ordered_uuid() -> UUID:
    """A version 7 uuid: milliseconds first, so that the unique index grows at its end (RFC 9562)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return UUID(int=value & ~(0xF000 << 64 | 0xC000 << 48) | 0x7000 << 64 | 0x8000 << 48)


def readable(value: object) -> str | None:
    """What people read in the table of a header, which may be anything; the original is in the headers."""
    if not isinstance(value, str):
        return None
    return value.replace("\0", "\ufffd").encode(errors="replace").decode()


@dataclass
class Outgoing:
    """One publish call. `headers` and `properties` are escaped JSON, `due_at` an ISO 8601 instant."""

    uuid: UUID
    exchange: str
    routing_key: str
    priority: int
    ttl_ms: int | None
    task: str | None
    task_id: str | None
    content_type: str | None
    content_encoding: str | None
    headers: str
    properties: str
    body: bytes
    due_at: str | None
    durable: bool
    repeated: bool = False
    """Whether an attempt before this one may have stored it, and failed then."""
    traced: bool = False
    """Whether it leaves a trace, by which a retry knows it even after it was consumed."""

    def call(self, commit: str) -> Call:
        """The statement that routes and stores it.

        `commit` is the setting of `synchronous_commit` for its transaction, where the last message's counts.
        """
        if self.traced:
            statement = sql.PUBLISH_ONCE if self.exchange else sql.PUBLISH_ONCE_TO_QUEUE
        elif self.due_at is not None:
            statement = sql.PUBLISH_LATER if self.exchange else sql.PUBLISH_LATER_TO_QUEUE
        else:
            statement = sql.PUBLISH if self.exchange else sql.PUBLISH_TO_QUEUE
        return statement, self._values(commit)

    def copy_call(self, consumer_id: UUID, original: Claimed) -> Call:
        """The same, if the consumer still holds the message of which this is a copy."""
        claim = (consumer_id, original.message_id, original.deliveries)
        values = self._values("on" if self.durable else "off")
        return sql.COPY if self.exchange else sql.COPY_TO_QUEUE, (*values, *claim)

    def _values(self, commit: str) -> tuple[object, ...]:
        return (
            self.uuid,
            self.exchange,
            self.routing_key,
            self.priority,
            self.ttl_ms,
            self.task,
            self.task_id,
            self.content_type,
            self.content_encoding,
            self.headers,
            self.properties,
            self.body,
            self.due_at,
            commit,
        )


@dataclass
class Routed:
    """Where a publish went."""

    queues: dict[int, str]
    """Id and name."""
    limited: list[str]
    """Names of those with a maximal length, which may have been exceeded."""
    exchange_exists: bool
    held: bool = False
    """Whether it waits for its time, by the server's clock."""


def read_routed(outgoing: Outgoing, rows: Rows) -> Routed:
    first = 1 if outgoing.exchange else 0
    routed = Routed({}, [], not outgoing.exchange or rows.raw(0, 3) is not None)
    for row in range(first, rows.count):
        queue_id = rows.integer(row, 0)
        routed.queues[queue_id] = rows.text(row, 4) or ""
        routed.held = rows.flag(row, 5)
        if rows.flag(row, 2):
            routed.limited.append(routed.queues[queue_id])
    return routed


class Key(NamedTuple):
    """A delivery, and where its message lies when a crash of the server undoes the claim.

    The number of a message that a crash took away is given to another one: they differ in `enqueued_at`.
    """

    message_id: int
    enqueued_at: int | None
    deliveries: int
    queue_id: int
    priority: int

    @property
    def message(self) -> tuple[int, int | None]:
        """Whatever delivery of it."""
        return self.message_id, self.enqueued_at


class Claimed:
    """A message held by this consumer: its key, its delivery number and its content.

    `logged` tells an entry of the broadcast log, which is read and not claimed, from a row. `enqueued_at` is
    in microseconds since the year 2000, by the server's clock; None for an entry of the log.
    """

    __slots__ = (
        "_task_id",
        "body",
        "content_encoding",
        "content_type",
        "deliveries",
        "enqueued_at",
        "exchange",
        "expired",
        "headers",
        "logged",
        "message_id",
        "priority",
        "properties",
        "queue_id",
        "routing_key",
    )

    def __init__(self, rows: Rows, row: int, *, logged: bool = False) -> None:
        """From a row of a claim, or of the log: the columns of the key, then the seven of the content."""
        raw, text = rows.raw, rows.text
        self.logged = logged
        if logged:
            self.message_id, self.queue_id = rows.integer(row, 1), rows.integer(row, 2)
            self.priority, self.deliveries, self.expired = 0, 1, False
            self.enqueued_at = None
            content = 3
        else:
            self.message_id, self.queue_id = rows.integer(row, 0), rows.integer(row, 1)
            self.priority, self.deliveries = rows.integer(row, 2), rows.integer(row, 3)
            self.expired = raw(row, 4) == b"\x01"
            self.enqueued_at = rows.number(row, 5)
            content = 6
        self.exchange = text(row, content) or ""
        self.routing_key = text(row, content + 1) or ""
        self.content_type = text(row, content + 2)
        self.content_encoding = text(row, content + 3)
        self.headers = raw(row, content + 4) or b"{}"
        self.properties = raw(row, content + 5) or b"{}"
        self.body = raw(row, content + 6) or b""

    @property
    def key(self) -> Key:
        return Key(self.message_id, self.enqueued_at, self.deliveries, self.queue_id, self.priority)

    @property
    def redelivered(self) -> bool:
        return self.deliveries > 1

    def take_note(self, headers: object) -> None:
        """Who has read the headers says so: they need not be read for the task's sake again."""
        self._task_id = readable(headers.get("id")) if isinstance(headers, dict) else None

    @property
    def task_id(self) -> str | None:
        """Celery's, for people."""
        try:
            return self._task_id
        except AttributeError:
            self.take_note(json.loads(self.headers))
            return self._task_id


def read_claimed(rows: Rows) -> list[Claimed]:
    """The rows of a claim in AMQP's order: they arrive in none."""
    claimed = [Claimed(rows, row) for row in range(rows.count)]
    if len(claimed) > 1:
        claimed.sort(key=lambda c: (-c.priority, c.message_id))
    return claimed


def read_seconds_looked(rows: Rows) -> float | None:
    """How long a claim from the beginning has looked for its rows; None where it found nothing."""
    return rows.integer(0, 13) / 1e6 if rows.count else None


def settle_arguments(consumer_id: UUID, claimed: Sequence[Claimed]) -> tuple[object, ...]:
    """The parameters that ACK, RELEASE and REJECT share."""
    return consumer_id, [c.message_id for c in claimed], [c.deliveries for c in claimed]


def read_ids(text: str | None) -> list[int]:
    """A `bigint[]` in text form, such as `{1,2}`."""
    inside = (text or "").strip("{}")
    return [int(part) for part in inside.split(",")] if inside else []
