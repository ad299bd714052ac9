"""What becomes of a message that is rejected, expired or pushed out: RabbitMQ's dead lettering.

A queue with `x-dead-letter-exchange` sends a copy there, with the history in the header `x-death`; the
original goes in the same transaction. Without one the message is kept in the table `dead_letter` if the
option `keep_rejected` says so, and dropped otherwise, as AMQP does.

What was delivered too often is kept in `dead_letter` whatever the queue and the options say: a cycle of
queues must not bring it back.
"""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from .messages import Claimed, Outgoing, read_routed, readable, settle_arguments, time_ordered_uuid
from .sql import messages as sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from uuid import UUID

    from .encoding import Rows
    from .topology import Queue, Run
    from .wire import Call

    Reader = Callable[[Rows], None]

#: The reason of what was delivered `max_deliveries` times and never acknowledged.
MAX_DELIVERIES = "max_deliveries"


class Burial:
    """Rejects messages of one queue; its steps belong in one transaction.

    A message that the consumer no longer holds is neither copied nor dropped.
    """

    def __init__(
        self, consumer_id: UUID, claimed: Sequence[Claimed], queue: Queue | None, reason: str, *, keep: bool
    ) -> None:
        """`keep` holds for a queue without a dead-letter exchange. `queue` is None where it is gone."""
        self._copies: list[tuple[Claimed, Outgoing]] = []
        if reason == MAX_DELIVERIES:
            keep = True
        elif queue is not None and queue.dead_letter_exchange is not None:
            exchange = queue.dead_letter_exchange
            self._copies = [(message, _copy(message, queue, exchange, reason)) for message in claimed]
            keep = False
        self._consumer_id = consumer_id
        self._rejection = (sql.REJECT, (*settle_arguments(consumer_id, claimed), reason, keep))

    @property
    def repeatable(self) -> Call | None:
        """The call that does it once more, should a crash undo it; None where a copy belongs to it."""
        return None if self._copies else self._rejection

    def steps(self, refilled: Callable[[Iterable[int]], None]) -> Iterator[tuple[Call, Reader | None]]:
        """The calls, each with the reader of its answer; `refilled(ids)` hears where copies went."""
        for message, copy in self._copies:
            yield copy.copy_call(self._consumer_id, message), partial(_read_copy, copy, refilled)
        yield self._rejection, None

    def run(self, run: Run) -> set[int]:
        """All of it at once; returns the queues to which copies went."""
        refilled: set[int] = set()
        steps = list(self.steps(refilled.update))
        for (_, reader), rows in zip(steps, run(*(call for call, _ in steps)), strict=True):
            if reader is not None:
                reader(rows)
        return refilled


def _read_copy(copy: Outgoing, refilled: Callable[[Iterable[int]], None], rows: Rows) -> None:
    refilled(read_routed(copy, rows).queues)


def _copy(message: Claimed, queue: Queue, exchange: str, reason: str) -> Outgoing:
    headers: dict[str, Any] = json.loads(message.headers)
    properties: dict[str, Any] = json.loads(message.properties)
    # Publishers may have put anything there.
    known = headers.get("x-death")
    deaths = [d for d in known if isinstance(d, dict)] if isinstance(known, list) else []
    same = [d for d in deaths if (d.get("queue"), d.get("reason")) == (queue.name, reason)]
    death = {
        "queue": queue.name,
        "reason": reason,
        "count": 1 + sum(count for d in same[:1] if isinstance(count := d.get("count"), int)),
        "exchange": message.exchange,
        "routing-keys": [message.routing_key],
        "time": int(time.time()),
    }
    if expiration := properties.pop("expiration", None):
        death["original-expiration"] = expiration  # or it would expire again where it arrives
    headers["x-death"] = [death, *(d for d in deaths if d not in same)]
    headers.setdefault("x-first-death-queue", queue.name)
    headers.setdefault("x-first-death-reason", reason)
    headers.setdefault("x-first-death-exchange", message.exchange)
    return Outgoing(
        uuid=time_ordered_uuid(),
        exchange=exchange,
        routing_key=queue.dead_letter_routing_key or message.routing_key,
        priority=message.priority,
        ttl_ms=None,
        task=readable(headers.get("task")),
        task_id=readable(headers.get("id")),
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=json.dumps(headers),
        properties=json.dumps(properties),
        body=message.body,
        due_at=None,
        durable=properties.get("delivery_mode") != 1,
    )
