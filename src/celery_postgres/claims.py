"""What a connection claims: for each channel, as much as its window has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .messages import Claimed, read_claimed, read_seconds_looked
from .sql import messages as sql
from .subscription import BUSY_AFTER, Roster, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from .encoding import Rows
    from .idleness import Idleness
    from .turn import Turn


class Claims:
    """Claims for all sources of a roster. Not safe between threads: the caller holds the session's lock."""

    def __init__(
        self,
        consumer_id: UUID,
        roster: Roster,
        idleness: Idleness,
        take: Callable[[Claimed, Source], None],
        plan_look: Callable[[float], None],
        pass_on: Callable[[list[int]], None],
    ) -> None:
        """`take(claimed, source)` gets each message, in the order of its queue.

        `plan_look(moment)` is to make all sources look then, by the monotonic clock; `pass_on(queue_ids)` is
        to ring for others.
        """
        self._consumer_id = consumer_id
        self._roster = roster
        self._idleness = idleness
        self._take = take
        self._plan_look = plan_look
        self._pass_on = pass_on

    @property
    def wanted(self) -> bool:
        """Whether a source has room and may find something."""
        return any(_may_find(source) and source.room() > 0 for source in self._roster.sources)

    def add_to(self, turn: Turn) -> None:
        for source in self._roster.sources:
            room = source.room() if _may_find(source) else 0
            if room > 0:
                self._add(turn, source, room)

    def _add(self, turn: Turn, source: Source, room: int) -> None:
        self._come_and_go(turn, source)
        source.look = False
        source.asked += room
        turn.on_failure(lambda: self._failed(source, room))
        behind = source.lanes.look_behind()
        queue_ids = source.turn_order(behind=behind)
        if behind:
            places = source.lanes.places(queue_ids)
            turn.add(
                (
                    sql.CLAIM_BEHIND,
                    (self._consumer_id, places.queue_ids, room, places.priorities, places.beginnings),
                ),
                lambda rows: self._read_behind(source, room, rows),
            )
        else:
            turn.on_failure(source.lanes.failed)
            turn.add(
                (sql.CLAIM, (self._consumer_id, queue_ids, room)),
                lambda rows: self._read_from_beginning(source, queue_ids[0], room, rows),
            )

    def _come_and_go(self, turn: Turn, source: Source) -> None:
        """Into a slot, of who has nothing to do, and out of it, before the claim."""
        settle, rung = source.settle and source.empty_handed, source.rung
        source.settle = source.rung = False
        if rung:
            source.one_of_few |= self._idleness.add_leaving(turn, source.queue_ids)
        elif settle:
            self._idleness.add_settling(turn, source.queue_ids)

    def _failed(self, source: Source, room: int) -> None:
        source.asked -= room
        source.look = True

    def _read_from_beginning(self, source: Source, first: int, room: int, rows: Rows) -> None:
        source.lanes.looked(first, read_seconds_looked(rows))
        self._read(source, room, rows, more_in_front=rows.count >= room)

    def _read_behind(self, source: Source, room: int, rows: Rows) -> None:
        self._read(source, room, rows, more_in_front=False)
        if rows.count < room:  # there may be something further in front
            self._plan_look(source.lanes.next_at)

    def _read(self, source: Source, room: int, rows: Rows, *, more_in_front: bool) -> None:
        source.asked -= room
        batch = read_claimed(rows)
        source.weigh(len(batch), sum(len(claimed.body) for claimed in batch))
        source.lanes.claimed(batch, more_in_front=more_in_front)
        for claimed in batch:
            self._take(claimed, source)
        if batch and self._idleness.leave(source.queue_ids):
            # It was found without a bell. What somebody rings for just now should not wait for room here.
            source.look = source.one_of_few = True
        few, source.one_of_few = source.one_of_few, False
        if rows.count >= room:
            source.look = True
            source.full_claims += 1
            if few:  # for what is more than they can take
                self._pass_on(source.queue_ids)
            if source.full_claims >= BUSY_AFTER:
                self._idleness.end(source.queue_ids)
            return
        source.full_claims = 0
        if self._idleness.begin(source.queue_ids):
            source.look = True  # once more, now that publishers see that somebody waits


def _may_find(source: Source) -> bool:
    """While claims are under way that is likely where those before them came back full."""
    return source.look or source.full_claims > 0
