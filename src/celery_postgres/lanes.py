"""Where a claim begins to look, when to look from the beginning has become long.

A row that was claimed stays in the index until no transaction can see it any more. One that stays open for
hours, a report or a backup, keeps all of them, and a look from the beginning passes over each. So while that
takes long, most looks begin behind what has been claimed before: in each lane, which is one priority of one
queue, since the rows of a lane lie in the order of their messages.

That is where to look first, and not what there is: a message may appear further in front, since its
transaction was committed late, or since it was given back or had to wait for its time. A look from the
beginning finds it, and there is one as often as takes a twentieth of the time.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .messages import Claimed

#: A look from the beginning that takes longer, in seconds, has passed over some thousand rows for nothing.
LONG_LOOK = 0.002
#: So many of them in a row: one alone may have had to wait for the processor.
_LOOKS = 5
#: The pause behind a long look, in looks, and its limit in seconds.
_PAUSE = 20
_LONGEST_PAUSE = 30.0
#: Publishers commit in another order than that of their messages' numbers. So long, in seconds, a message may
#: come late and still be found from behind; at most twice as long.
_LATE = 0.1


class Places(NamedTuple):
    """Lanes, and in each of them the first message that is looked at."""

    queue_ids: list[int]
    priorities: list[int]
    beginnings: list[int]


class _Lane:
    """The highest message that was claimed, now and a while ago."""

    __slots__ = ("_changed_at", "_highest", "_next", "beginning")

    def __init__(self, message_id: int, now: float) -> None:
        self.beginning = self._next = self._highest = message_id
        self._changed_at = now

    def claimed(self, message_id: int, now: float) -> None:
        """It was found behind the lane's beginning, or among all that there is."""
        if now - self._changed_at >= _LATE:
            self.beginning, self._next = self._next, self._highest
            self._changed_at = now
        self._highest = max(self._highest, message_id)

    def begin_again(self, message_id: int, now: float) -> None:
        """It was found in front, and there may be more between it and the beginning."""
        self.beginning = self._next = self._highest = message_id
        self._changed_at = now


class Lanes:
    """Those of the queues that share a window. Not safe between threads: the caller holds the session's lock.

    Numbers are given out again after a crash: a new session begins with new lanes.
    """

    def __init__(self) -> None:
        self._by_queue: dict[int, dict[int, _Lane]] = {}
        self._looks: dict[int, deque[float]] = {}
        """How long the last looks took, in seconds, by the queue with which they began."""
        self._looking = False
        self._looked_at = 0.0
        self._was_behind = False

    @property
    def _length(self) -> float:
        """How long a look from the beginning takes, in seconds, or 0 if that is not long."""
        lengths = (min(looks) for looks in self._looks.values() if len(looks) == _LOOKS)
        length = max(lengths, default=0.0)
        return length if length > LONG_LOOK else 0.0

    @property
    def next_at(self) -> float:
        """When to look from the beginning again, by the monotonic clock; not while that is being done."""
        return math.inf if self._looking else self._looked_at + min(_PAUSE * self._length, _LONGEST_PAUSE)

    def look_behind(self) -> bool:
        """Whether to look in `places` now; else from the beginning, and then tell `looked` or `failed`."""
        # Behind first, also when it is time: who was woken has most likely been woken for what is there.
        self._was_behind = bool(self._length) and not (self._was_behind and time.monotonic() >= self.next_at)
        self._looking = self._looking or not self._was_behind
        return self._was_behind

    def places(self, queue_ids: Sequence[int]) -> Places:
        """Where to look behind, in the order of the queues."""
        every = self._by_queue.values()
        # In a queue of which nothing has come yet: what comes now has a higher number than all that was seen.
        newest = max(lane.beginning for lanes in every for lane in lanes.values())
        anywhere = dict.fromkeys({priority for lanes in every for priority in lanes}, newest)
        places = Places([], [], [])
        for queue_id in queue_ids:
            lanes = self._by_queue.get(queue_id)
            beginnings = {p: lane.beginning for p, lane in lanes.items()} if lanes else anywhere
            for priority in sorted(beginnings, reverse=True):
                places.queue_ids.append(queue_id)
                places.priorities.append(priority)
                places.beginnings.append(beginnings[priority])
        return places

    def looked(self, queue_id: int, seconds: float | None) -> None:
        """A look from the beginning, of this queue first, took so long by the server's clock.

        None if it found nothing.
        """
        self._looking = False
        self._looked_at = time.monotonic()
        if seconds is not None:
            self._looks.setdefault(queue_id, deque(maxlen=_LOOKS)).append(seconds)

    def failed(self) -> None:
        """A look from the beginning did not come to its end."""
        self._looking = False

    def claimed(self, batch: Iterable[Claimed], *, more_in_front: bool) -> None:
        """These were found, in AMQP's order.

        `more_in_front`: by a look from the beginning, which came back full.
        """
        now = time.monotonic()
        for claimed in batch:
            lanes = self._by_queue.setdefault(claimed.queue_id, {})
            lane = lanes.get(claimed.priority)
            if lane is None:
                lanes[claimed.priority] = _Lane(claimed.message_id, now)
            elif more_in_front and claimed.message_id < lane.beginning:
                lane.begin_again(claimed.message_id, now)
            else:
                lane.claimed(claimed.message_id, now)
