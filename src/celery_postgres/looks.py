"""When a consumer looks for messages although no bell rang, and when one of many settles into a slot.

Not safe between threads: the caller holds the session's lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cadence import SETTLE_AFTER, SETTLE_AGAIN, Cadence
from .wakeup import WOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from .broadcast import BroadcastReader
    from .idleness import Idleness
    from .liveness import Incarnation
    from .options import Options
    from .subscription import Roster


class Looks:
    """Says of the sources of a roster, and of the log's reader, that they are to look."""

    def __init__(
        self,
        options: Options,
        roster: Roster,
        reader: BroadcastReader,
        idleness: Idleness,
        incarnation: Incarnation,
        *,
        at_work: Callable[[], bool],
        planned: Callable[[], None],
    ) -> None:
        """`at_work()` tells whether this process executes something that it has acknowledged already.

        `planned()` is called when `seconds_left` has changed.
        """
        self._roster = roster
        self._reader = reader
        self._idleness = idleness
        self._incarnation = incarnation
        self._at_work = at_work
        self._planned = planned
        self._cadence = Cadence(options.poll_interval, options.max_poll_interval)
        idleness.on_begun = self._went_idle
        idleness.on_occupied = self._settle_after

    def seconds_left(self) -> float:
        """Until `poll` has something to do."""
        return self._cadence.seconds_left()

    def plan(self, moment: float) -> None:
        """Look everywhere at this moment at the latest, by the monotonic clock."""
        self._cadence.look_at(moment)
        self._planned()

    def poll(self) -> None:
        """Look everywhere if that is due: every hint may have been lost.

        Who is one of many and has nothing to do goes into a slot with it, also when no bell was heard for a
        while.
        """
        due, quiet = self._cadence.due(), self._cadence.quiet()
        if due or quiet:
            self._settle(due=due, quiet=quiet)
        if due:
            self._cadence.looked(trusting=self._idleness.listening and not self._roster.reads_at_the_poll)
            self._reader.due = True
        if self._crowded and not self._cadence.waits_for_quiet and self._idleness.may_find_a_slot:
            # It has just learned that it is one of many, or the claim that was to take it there met a bell.
            # Bells are for those in slots now: none would remind it.
            self._settle_after(SETTLE_AGAIN)

    def _settle(self, *, due: bool, quiet: bool) -> None:
        idle = self._crowded and not self._at_work()
        for source in self._roster.sources:
            shared = self._idleness.is_shared(source.queue_ids)
            source.settle = shared and idle and source.empty_handed
            source.look |= due or source.settle
            if shared and quiet and not source.settle:
                self._settle_after(SETTLE_AGAIN)

    def rung(self, queue_id: int) -> None:
        """A bell was heard for this queue."""
        sources = [source for source in self._roster.sources if queue_id in source.queue_ids]
        for source in sources:
            source.look = source.rung = True
        if sources and self._crowded:
            self._settle_after()

    @property
    def _crowded(self) -> bool:
        """Whether there are more than a bell needs to wake."""
        return self._incarnation.crowd > WOKEN

    def _settle_after(self, seconds: float = SETTLE_AFTER) -> None:
        if self._cadence.settle_after(seconds):
            self._planned()

    def _went_idle(self) -> None:
        self._cadence.went_idle()
        self._planned()
