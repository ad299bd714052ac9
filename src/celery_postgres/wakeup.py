"""The bell: how publishers wake idle consumers, and how consumers say that they are idle.

Everything here is a hint. A consumer that goes idle on a queue takes the queue's lock shared, looks once
more, and then waits; a publisher commits first and then tries the lock, so one of the two always sees the
other. Where that fails (a pooler, a lost session, `notify=false`) the poll finds the message.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from .sql import Statement, wakeup

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .wire import Call


def _digest(schema: str) -> bytes:
    return hashlib.blake2b(schema.encode(), digest_size=8, person=b"celery-postgres"[:16]).digest()


class Bell:
    """The calls that ring and listen, for one schema."""

    def __init__(self, schema: str) -> None:
        digest = _digest(schema)
        # Channel names end at 63 bytes, silently for LISTEN: a hash never gets there.
        self.channel = f"celery_{digest.hex()}"
        self.lock_class = int.from_bytes(digest[:4], "big", signed=True)
        self._listen = Statement("listen", f"LISTEN {self.channel}")

    def listen(self) -> Call:
        return self._listen, ()

    def ring(self, queue_ids: Iterable[int], *, pooled: bool) -> Call:
        """Wake whoever waits for these queues; belongs in a transaction of its own, after the commit."""
        if pooled:
            return wakeup.RING, (self.channel, list(queue_ids))
        return wakeup.RING_IF_IDLE, (self.channel, self.lock_class, list(queue_ids))

    def wait_idle(self, queue_ids: Iterable[int]) -> Call:
        return wakeup.WAIT_IDLE, (self.lock_class, list(queue_ids))

    def wait_no_more(self, queue_ids: Iterable[int]) -> Call:
        return wakeup.WAIT_NO_MORE, (self.lock_class, list(queue_ids))

    def try_sweeper(self, *, pooled: bool) -> Call:
        return (wakeup.TRY_SWEEPER_ONCE if pooled else wakeup.TRY_SWEEPER), (self.lock_class,)
