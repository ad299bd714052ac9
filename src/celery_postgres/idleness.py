"""On which queues a connection waits to be woken, and how.

A consumer that has emptied a queue takes one of the queue's locks, which publishers try: whoever holds one is
woken. One that is kept busy lets go, so that publishers need not ring.

    busy ──── emptied a queue ────▶ waiting with others ──── nothing in hand for a while ───▶ in a slot
      ◀─── comes back full again ──        ▲                                                     │
                                           └────────────────────── woken ────────────────────────┘

The lock that several share wakes all of them, and all ask. A slot is one consumer's, of which a bell wakes
two; so who is in one must be able to claim, and leaves it before it does. Not safe between threads: the
caller holds the session's lock.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING

from .errors import DatabaseRejected, DatabaseUnavailable
from .wakeup import SLOTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .encoding import Rows
    from .line import Line
    from .turn import Turn
    from .wakeup import Bell
    from .wire import Batch, Call


class Idleness:
    """The locks of one session; every queue is locked once at most, since the server counts."""

    def __init__(self, session: Line, bell: Bell, *, listening: bool) -> None:
        self._session = session
        self._bell = bell
        self.listening = listening
        """Whether bells are heard."""
        self._shared: set[int] = set()
        self._slotted: set[int] = set()
        self._moving: set[int] = set()
        """On the way between the two: the answer is under way."""
        self._slot = random.randrange(SLOTS)  # noqa: S311
        self.on_begun: Callable[[], None] | None = None
        """Called when the server has answered: who publishes from now on can see that somebody waits."""
        self.on_occupied: Callable[[], None] | None = None
        """Called when somebody else was in the slot, and another one may be free."""
        self._occupied = 0
        """How many were found so one after the other; when all were, the last is tried now and then."""

    def listen(self) -> list[Call]:
        """The calls by which a new session hears the bells."""
        return [self._bell.listen(), self._bell.listen_at(self._slot)] if self.listening else []

    def forget(self) -> None:
        """The session was replaced: the locks of the old one are gone."""
        for held in (self._shared, self._slotted, self._moving):
            held.clear()

    # -- waiting with others -------------------------------------------------------------------------

    def begin(self, queue_ids: Iterable[int]) -> bool:
        """Wait for these queues; False when that was so already, or when no bell would be heard."""
        if not self.listening:
            return False
        ids = [id_ for id_ in queue_ids if id_ not in self._shared]
        if ids and (self._slotted or self._moving):
            ids = [id_ for id_ in ids if id_ not in self._slotted and id_ not in self._moving]
        if not ids:
            return False
        self._shared.update(ids)
        self._session.send([self._bell.wait_idle(ids)], lambda batch: self._answered(ids, batch))
        return True

    def _answered(self, ids: list[int], batch: Batch) -> None:
        if isinstance(batch.error, DatabaseRejected):
            self._let_go(self._bell.wait_no_more(ids))
        # A publisher's test held one just then: it is asked for again after the next look.
        self._shared.difference_update(set(ids).difference(*map(_locked, batch.results)))
        if self.on_begun is not None:
            self.on_begun()

    def _let_go(self, *calls: Call) -> None:
        """Locks of a session outlive the transaction that took them, and the server counts.

        What was taken before the refusal would never be given back.
        """
        with suppress(DatabaseUnavailable):  # its locks end with it
            self._session.send(calls)

    def end(self, queue_ids: Iterable[int]) -> None:
        """Wait no more for these queues."""
        if calls := self.ending(queue_ids):
            self._session.send(calls)

    def ending(self, queue_ids: Iterable[int]) -> list[Call]:
        """The calls that do so, for a batch of the caller's."""
        ids = set(queue_ids)
        shared, slotted = ids & self._shared, ids & self._slotted
        self._shared -= shared
        self._slotted -= slotted
        calls = [self._bell.wait_no_more(shared)] if shared else []
        return [*calls, self._bell.free_slot(self._slot, slotted)] if slotted else calls

    def is_shared(self, queue_ids: Iterable[int]) -> bool:
        """Whether a bell for one of them would wake others with us."""
        return not self._shared.isdisjoint(queue_ids)

    # -- in a slot -----------------------------------------------------------------------------------

    @property
    def may_find_a_slot(self) -> bool:
        """Whether we wait with others, and not all slots were found taken."""
        return bool(self._shared) and self._occupied < SLOTS

    def may_be_meant(self, queue_id: int) -> bool:
        """Whether a bell for a slot may be for us: those who have none listen, too, until they have.

        One that we have left since was rung for what the claim behind that has found.
        """
        return queue_id in self._slotted or queue_id in self._moving

    def add_settling(self, turn: Turn, queue_ids: Iterable[int]) -> None:
        """Go into the slot before what the turn claims, if nobody else is there."""
        if ids := self._move(self._shared, queue_ids):
            turn.on_failure(lambda: self._failed_to_move(ids))
            turn.add(self._bell.take_slot(self._slot, ids), lambda rows: self._settled(ids, rows))

    def _settled(self, ids: list[int], rows: Rows) -> None:
        inside = _locked(rows)
        self._moving.difference_update(ids)
        self._slotted |= inside
        self._shared |= set(ids) - inside
        if inside:
            self._occupied = 0
        elif not self._slotted and not self._moving and self._occupied < SLOTS:
            self._try_the_next()

    def _try_the_next(self) -> None:
        """Not in the batch that takes it: what is rung before it begins to listen, at its commit, is lost."""
        old, self._slot = self._slot, (self._slot + 1) % SLOTS
        self._session.send([self._bell.listen_no_more_at(old), self._bell.listen_at(self._slot)])
        self._occupied += 1
        if self.on_occupied is not None:
            self.on_occupied()

    def add_leaving(self, turn: Turn, queue_ids: Iterable[int]) -> bool:
        """Out of the slot before what the turn claims, to wait with others; False when not in one."""
        ids = self._move(self._slotted, queue_ids)
        if ids:
            turn.on_failure(lambda: self._failed_to_move(ids))
            turn.add(self._bell.leave_slot(self._slot, ids), lambda rows: self._left(ids, rows))
        return bool(ids)

    def leave(self, queue_ids: Iterable[int]) -> bool:
        """The same at once. Who leaves without a claim behind it may be what somebody has rung for."""
        ids = self._move(self._slotted, queue_ids)
        if ids:
            call = self._bell.leave_slot(self._slot, ids)
            self._session.send([call], lambda batch: self._left_at_once(ids, batch))
        return bool(ids)

    def _left_at_once(self, ids: list[int], batch: Batch) -> None:
        if batch.error is not None:
            self._failed_to_move(ids)
        else:
            self._left(ids, batch.results[0])

    def _left(self, ids: list[int], rows: Rows) -> None:
        self._moving.difference_update(ids)
        self._shared |= _locked(rows)

    def _move(self, held: set[int], queue_ids: Iterable[int]) -> list[int]:
        ids = [id_ for id_ in queue_ids if id_ in held]
        held.difference_update(ids)
        self._moving.update(ids)
        return ids

    def _failed_to_move(self, ids: list[int]) -> None:
        self._moving.difference_update(ids)
        self._let_go(self._bell.wait_no_more(ids), self._bell.free_slot(self._slot, ids))


def _locked(rows: Rows) -> set[int]:
    return {rows.integer(row, 0) for row in range(rows.count) if rows.flag(row, 1)}
