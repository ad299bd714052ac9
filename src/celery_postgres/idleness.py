"""On which queues a connection waits to be woken.

A consumer that has emptied a queue takes the queue's lock shared: publishers try it and ring if somebody
holds it. One that is kept busy lets go, so that publishers need not ring. Not safe between threads: the
caller holds the session's lock.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from .errors import DatabaseRejected, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .line import Line
    from .wakeup import Bell
    from .wire import Batch, Call


class Idleness:
    """The locks of one session; every queue is locked once at most, since the server counts."""

    def __init__(self, session: Line, bell: Bell, *, listening: bool) -> None:
        self._session = session
        self._bell = bell
        self._listening = listening
        self._on: set[int] = set()
        self.on_begun: Callable[[], None] | None = None
        """Called when the server has answered: who publishes from now on can see that somebody waits."""

    def forget(self) -> None:
        """The session was replaced: the locks of the old one are gone."""
        self._on.clear()

    def begin(self, queue_ids: Iterable[int]) -> bool:
        """Wait for these queues; False when that was so already, or when no bell would be heard."""
        ids = [queue_id for queue_id in queue_ids if queue_id not in self._on]
        if not ids or not self._listening:
            return False
        self._on.update(ids)
        self._session.send([self._bell.wait_idle(ids)], lambda batch: self._answered(ids, batch))
        return True

    def _answered(self, ids: list[int], batch: Batch) -> None:
        if isinstance(batch.error, DatabaseRejected):
            # Locks of a session outlive the transaction that took them, and the server counts: what was taken
            # before the refusal would never be given back.
            with suppress(DatabaseUnavailable):  # its locks end with it
                self._session.send([self._bell.wait_no_more(ids)])
        locked = {
            rows.integer(row, 0) for rows in batch.results for row in range(rows.count) if rows.flag(row, 1)
        }
        # A publisher's test held one just then: it is asked for again after the next look.
        self._on.difference_update(id_ for id_ in ids if id_ not in locked)
        if self.on_begun is not None:
            self.on_begun()

    def end(self, queue_ids: Iterable[int]) -> None:
        """Wait no more for these queues."""
        if calls := self.ending(queue_ids):
            self._session.send(calls)

    def ending(self, queue_ids: Iterable[int]) -> list[Call]:
        """The call that does so, for a batch of the caller's."""
        held = [queue_id for queue_id in queue_ids if queue_id in self._on]
        self._on.difference_update(held)
        return [self._bell.wait_no_more(held)] if held else []
