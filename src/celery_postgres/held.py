"""What an incarnation holds as far as it knows, and what it settled a moment ago.

Not safe between threads: the caller holds the session's lock.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from .messages import settle_arguments
from .sql import messages as sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
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


class Held:
    """The rows of `unacked` that ought to be there."""

    def __init__(self) -> None:
        self._held: dict[int, Claimed] = {}
        self._settled: deque[tuple[float, Statement, Sequence[object]]] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, claimed: Claimed) -> None:
        self._held[claimed.message_id] = claimed

    def drop(self, claimed: Iterable[Claimed]) -> None:
        """Ours no longer."""
        for message in claimed:
            if self._held.get(message.message_id) is message:
                del self._held[message.message_id]

    def settled(self, claimed: Iterable[Claimed], call: Call | None) -> None:
        """The server has confirmed it; `call` does it once more, None where that is not to be done."""
        self.drop(claimed)
        if call is None:
            return
        now = time.monotonic()
        self._settled.append((now, *call))
        while self._settled[0][0] < now - REMEMBERED or len(self._settled) > REMEMBERED_AT_MOST:
            self._settled.popleft()

    def all(self) -> list[Claimed]:
        return list(self._held.values())

    def redo(self, keys: Iterable[tuple[int, int]], consumer_id: UUID) -> dict[tuple[int, int], Call]:
        """Of these pairs of message id and delivery number, those that were settled a moment ago.

        Each with the call that does it again.
        """
        wanted = set(keys)
        found: dict[tuple[int, int], Call] = {}
        for _, statement, values in self._settled if wanted else ():
            _, ids, deliveries, *rest = values
            for key in zip(ids, deliveries, strict=True):  # type: ignore[call-overload]
                if key in wanted:
                    found[key] = statement, (consumer_id, [key[0]], [key[1]], *rest)
        return found


def ack_call(consumer_id: UUID, claimed: Sequence[Claimed]) -> Call:
    return sql.ACK, settle_arguments(consumer_id, claimed)


def release_call(consumer_id: UUID, claimed: Sequence[Claimed]) -> Call:
    return sql.RELEASE, settle_arguments(consumer_id, claimed)
