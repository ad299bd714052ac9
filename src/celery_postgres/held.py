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
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from .messages import Claimed
    from .sql import Statement
    from .wire import Call

#: How long a settlement that the server has confirmed is remembered, in seconds. It is committed without
#: waiting for the disk, so a crash of the server undoes those of the last moments: three times
#: `wal_writer_delay`, which is 0.2 s unless somebody raised it, and more where the disk lags behind.
REMEMBERED = 10.0
#: How many statements are remembered at most, of up to 500 messages each.
REMEMBERED_AT_MOST = 5000


class Settlement(NamedTuple):
    """One that the server has confirmed."""

    at: float
    """By the monotonic clock."""
    keys: dict[Key, str | None]
    """With their tasks."""
    statement: Statement
    rest: Sequence[object]
    """Its parameters behind the consumer, the ids and the delivery numbers."""


class Held:
    """The rows of `unacked` that ought to be there."""

    def __init__(self) -> None:
        self._held: dict[int, Claimed] = {}
        self._settled: deque[Settlement] = deque()

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
        keys = {message.key: message.task_id for message in messages}
        self._settled.append(Settlement(now, keys, statement, rest))
        while self._settled[0].at < now - REMEMBERED or len(self._settled) > REMEMBERED_AT_MOST:
            self._settled.popleft()

    def all(self) -> list[Claimed]:
        return list(self._held.values())

    def remembered(self) -> list[Settlement]:
        """What was settled a moment ago."""
        return list(self._settled)

    def acknowledged_before(self, moment: float) -> dict[Key, str | None]:
        """What was acknowledged shortly before a moment of the monotonic clock, or since, with its tasks.

        Only what is remembered: after an outage others are added with `acknowledged_since`.
        """
        return self.acknowledged_since(moment - REMEMBERED)

    def acknowledged_since(self, moment: float) -> dict[Key, str | None]:
        """What was acknowledged then or later, and is remembered, with its tasks."""
        since = (settled for settled in self._settled if settled.at >= moment)
        return {
            key: task
            for settled in since
            if settled.statement is sql.ACK
            for key, task in settled.keys.items()
        }

    def acknowledged_again(self, keys: Mapping[Key, str | None]) -> None:
        """As `settled`: that may be undone, too."""
        if keys:
            self._settled.append(Settlement(time.monotonic(), dict(keys), sql.ACK, ()))

    def forget(self, keys: Mapping[Key, str | None]) -> None:
        """They are not to be settled again: others have them, or had."""
        for settlement in self._settled if keys else ():
            for key in settlement.keys.keys() & keys.keys():
                del settlement.keys[key]


def ack_call(consumer_id: UUID, claimed: Sequence[Claimed]) -> Call:
    return sql.ACK, settle_arguments(consumer_id, claimed)


def release_call(consumer_id: UUID, claimed: Sequence[Claimed]) -> Call:
    return sql.RELEASE, settle_arguments(consumer_id, claimed)
