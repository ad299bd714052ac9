"""What an incarnation holds as far as it knows, and what it settled a moment ago.

Not safe between threads: the caller holds the session's lock.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from .messages import Key, settle_arguments
from .sql import messages as sql

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from uuid import UUID

    from .messages import Claimed
    from .sql import Statement
    from .wire import Call

#: How long a settlement that the server has confirmed is remembered, in seconds. It is committed without
#: waiting for the disk, so a crash of the server undoes those of the last moments: three times
#: `wal_writer_delay`, which is 0.2 s unless somebody raised it.
REMEMBERED = 5.0
#: And how many statements at most, of up to 500 messages each.
REMEMBERED_AT_MOST = 5000


class Settlement(NamedTuple):
    """One that the server has confirmed."""

    at: float
    """By the monotonic clock."""
    keys: list[Key]
    statement: Statement
    rest: Sequence[object]
    """Its parameters behind the consumer, the ids and the delivery numbers."""


class Held:
    """The rows of `unacked` that ought to be there."""

    def __init__(self) -> None:
        self._held: dict[int, Claimed] = {}
        self._settled: deque[Settlement] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def holds(self, claimed: Claimed) -> bool:
        """Whether this very delivery is ours; its number may belong to another message since a crash."""
        return self._held.get(claimed.message_id) is claimed

    def add(self, claimed: Claimed) -> None:
        self._held[claimed.message_id] = claimed

    def drop(self, claimed: Iterable[Claimed]) -> None:
        """Ours no longer."""
        for message in claimed:
            if self._held.get(message.message_id) is message:
                del self._held[message.message_id]

    def settled(self, claimed: Iterable[Claimed], call: Call | None) -> None:
        """The server has confirmed it; `call` does it once more, None where that is not to be done."""
        messages = list(claimed)
        self.drop(messages)
        if call is None:
            return
        now = time.monotonic()
        statement, (_, _, _, *rest) = call
        self._settled.append(Settlement(now, [message.key for message in messages], statement, rest))
        while self._settled[0].at < now - REMEMBERED or len(self._settled) > REMEMBERED_AT_MOST:
            self._settled.popleft()

    def all(self) -> list[Claimed]:
        return list(self._held.values())

    def acknowledged(self) -> list[Key]:
        """What was acknowledged a moment ago: it is gone for good, unless a crash has brought it back."""
        return [
            key for settlement in self._settled if settlement.statement is sql.ACK for key in settlement.keys
        ]

    def redo(self, wanted: Collection[tuple[int, int]], consumer_id: UUID) -> list[tuple[list[Key], Call]]:
        """Of these pairs of message id and delivery number, those that were settled a moment ago.

        Each with the call that does it again, together with others.
        """
        found: list[tuple[list[Key], Call]] = []
        for settlement in self._settled if wanted else ():
            keys = [key for key in settlement.keys if (key.message_id, key.deliveries) in wanted]
            if keys:
                values = (consumer_id, [key.message_id for key in keys], [key.deliveries for key in keys])
                found.append((keys, (settlement.statement, (*values, *settlement.rest))))
        return found


def ack_call(consumer_id: UUID, claimed: Sequence[Claimed]) -> Call:
    return sql.ACK, settle_arguments(consumer_id, claimed)


def release_call(consumer_id: UUID, claimed: Sequence[Claimed]) -> Call:
    return sql.RELEASE, settle_arguments(consumer_id, claimed)
