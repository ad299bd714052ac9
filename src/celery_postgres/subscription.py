"""Who consumes what on one connection: subscriptions, and the windows that they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .messages import Claimed
    from .topology import Queue

#: Claims that came back full in a row, after which a consumer stops asking publishers for bells.
BUSY_AFTER = 3

#: How many bytes of bodies may wait for their callbacks, going by those that came last.
BYTES_AHEAD = 64 * 1024 * 1024
#: The first claim does not know yet how large they are.
FIRST_CLAIM = 32


class Source:
    """The queues that one channel consumes under one prefetch window."""

    def __init__(self, window: Callable[[], int], size: Callable[[], int]) -> None:
        """`window()` is how many more may be claimed, `size()` how many at most."""
        self._window = window
        self._size = size
        self.queue_ids: list[int] = []
        self._turns = {True: 0, False: 0}
        self.arrived = 0
        """How many were claimed and not yet handed over."""
        self.asked = 0
        """How many the claims under way may bring."""
        self.look = True
        """Whether a claim may find something: at first, after a bell, after one that came back full."""
        self.rung = False
        """Whether a bell is the reason."""
        self.settle = False
        """Whether to go into a slot with the next claim."""
        self.one_of_few = False
        """Whether the bell woke those in slots, and not everybody."""
        self.full_claims = 0
        self.lanes = Lanes()
        self._ahead = FIRST_CLAIM
        """How many may wait for their callbacks, for the sake of memory."""

    def room(self) -> int:
        """How many to claim now."""
        return min(self._window(), self._ahead) - self.arrived - self.asked

    @property
    def empty_handed(self) -> bool:
        """Whether there is nothing to do, so that all that was claimed could begin at once."""
        return not self.arrived and not self.asked and self._window() == self._size()

    def weigh(self, count: int, size: int) -> None:
        """Learn from a claim of so many bytes; small ones make the next claims larger step by step."""
        if count:
            self._ahead = max(1, min(4 * self._ahead, BYTES_AHEAD * count // max(1, size)))

    def has_enough(self) -> bool:
        """Whether there is a backlog, of which at least half a window is in hand."""
        return self.full_claims > 0 and (self.room() + self.asked) * 2 <= self._size()

    def turn_order(self, *, behind: bool) -> list[int]:
        """Each claim begins with another queue, so none starves.

        Those from `behind` and those from the beginning each take turns: as they alternate, every other queue
        would never be the first of its kind.
        """
        self._turns[behind] += 1
        first = self._turns[behind] % len(self.queue_ids)
        return self.queue_ids[first:] + self.queue_ids[:first]


class Subscription:
    """One consumer of one queue; `name` is unique in its connection.

    `accept(claimed)` enters a delivery into the window, under the session's lock; `deliver` then gets what it
    returned, outside of it.
    """

    __slots__ = ("accept", "deliver", "exclusive", "name", "no_ack", "queue", "source", "tag")

    def __init__(
        self,
        tag: str,
        name: str,
        queue: Queue,
        source: Source,
        *,
        accept: Callable[[Claimed], Any],
        deliver: Callable[[Any], None],
        no_ack: bool,
        exclusive: bool = False,
    ) -> None:
        self.tag = tag
        self.name = name
        self.queue = queue
        self.source = source
        self.accept = accept
        self.deliver = deliver
        self.no_ack = no_ack
        self.exclusive = exclusive


class Roster:
    """All subscriptions of one connection. Not safe between threads: the caller holds the session's lock."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._by_queue: dict[int, list[Subscription]] = {}
        self._queues: dict[int, Queue] = {}

    @property
    def queue_ids(self) -> list[int]:
        """The queues that are consumed."""
        return list(self._by_queue)

    @property
    def subscriptions(self) -> list[Subscription]:
        return [subscription for owners in self._by_queue.values() for subscription in owners]

    @property
    def reads_at_the_poll(self) -> bool:
        """Whether there is a queue for whose messages no bell is rung."""
        return any(not owners[0].queue.prompt for owners in self._by_queue.values())

    def of(self, queue_id: int) -> Sequence[Subscription]:
        return self._by_queue.get(queue_id, ())

    def queue(self, queue_id: int) -> Queue | None:
        """A queue that is, or was, consumed or got from; messages of it may still be held."""
        return self._queues.get(queue_id)

    def remember(self, queue: Queue) -> None:
        self._queues[queue.id] = queue

    def forget(self, queue_id: int) -> None:
        """The queue is gone."""
        self._queues.pop(queue_id, None)

    def add(self, subscription: Subscription) -> None:
        queue, source = subscription.queue, subscription.source
        self.remember(queue)
        self._by_queue.setdefault(queue.id, []).append(subscription)
        if queue.broadcast_from is not None:
            return
        if source not in self.sources:
            self.sources.append(source)
        if queue.id not in source.queue_ids:
            source.queue_ids.append(queue.id)
            source.lanes = Lanes()
        source.look = True

    def remove(self, subscription: Subscription) -> bool:
        """Returns whether it was the last one of its queue."""
        queue_id, source = subscription.queue.id, subscription.source
        others = self._by_queue.get(queue_id, [])
        if subscription in others:
            others.remove(subscription)
        if not any(other.source is source for other in others) and queue_id in source.queue_ids:
            source.queue_ids.remove(queue_id)
            source.lanes = Lanes()
        if not source.queue_ids and source in self.sources:
            self.sources.remove(source)
        if not others:
            self._by_queue.pop(queue_id, None)
        return not others

    def owner(self, claimed: Claimed, source: Source | None) -> Subscription | None:
        """Whom a message is for: each subscription in turn, within the window that claimed it."""
        owners = self.of(claimed.queue_id)
        if source is not None and owners:
            owners = [owner for owner in owners if owner.source is source] or owners
        return owners[claimed.message_id % len(owners)] if owners else None
