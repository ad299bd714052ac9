"""What has come from the server and waits for somebody to take it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .messages import Claimed
    from .subscription import Subscription


class Arrivals:
    """Messages in the order of their arrival, each for one subscription; entries of the broadcast log first.

    A task must not overtake a command that was sent before it, such as the one that revokes it, and both may
    come in one batch: there the log is read behind the claim, so it shows what was sent before.

    Entries of the broadcast log for a queue that nobody consumes at present wait apart: for a `basic_get`, or
    for the next consumer. Not safe between threads: the caller holds the session's lock.
    """

    def __init__(self) -> None:
        self._line: deque[tuple[Subscription, Claimed]] = deque()
        self._log: deque[tuple[Subscription, Claimed]] = deque()
        self._apart: dict[int, deque[Claimed]] = {}

    def __len__(self) -> int:
        """How many wait for a callback."""
        return len(self._line) + len(self._log)

    def put(self, owner: Subscription, claimed: Claimed) -> None:
        owner.source.arrived += 1
        (self._log if claimed.logged else self._line).append((owner, claimed))

    def put_back(self, owner: Subscription, claimed: Claimed) -> None:
        """To the head of the line."""
        owner.source.arrived += 1
        (self._log if claimed.logged else self._line).appendleft((owner, claimed))

    def take(self) -> tuple[Subscription, Claimed] | None:
        """The next one and whom it is for."""
        line = self._log or self._line
        if not line:
            return None
        owner, claimed = line.popleft()
        owner.source.arrived -= 1
        return owner, claimed

    def take_of_queue(self, queue_id: int) -> Claimed | None:
        """The next one of a queue of the log, whomever it was for: what waits apart is older."""
        apart = self._apart.get(queue_id)
        if apart:
            return apart.popleft()
        for position, (owner, claimed) in enumerate(self._log):
            if claimed.queue_id == queue_id:
                owner.source.arrived -= 1
                del self._log[position]
                return claimed
        return None

    def withdraw(self, owner: Subscription) -> list[Claimed]:
        """Everything of one subscription, in its order."""
        line = [*self._log, *self._line]
        mine = [claimed for other, claimed in line if other is owner]
        self._line = deque(entry for entry in self._line if entry[0] is not owner)
        self._log = deque(entry for entry in self._log if entry[0] is not owner)
        owner.source.arrived -= len(mine)
        return mine

    def drop(self, lost: Iterable[Claimed]) -> None:
        """Take out what is not ours any more."""
        gone = {id(claimed) for claimed in lost}
        mine = [entry for entry in self._line if id(entry[1]) in gone]
        for owner, _ in mine:
            owner.source.arrived -= 1
        if mine:
            self._line = deque(entry for entry in self._line if id(entry[1]) not in gone)

    def withdraw_rows(self) -> list[Claimed]:
        """Everything but the entries of the log, in its order."""
        line, self._line = self._line, deque()
        for owner, _ in line:
            owner.source.arrived -= 1
        return [claimed for _, claimed in line]

    def set_apart(self, claimed: Claimed) -> None:
        self._apart.setdefault(claimed.queue_id, deque()).append(claimed)

    def set_apart_first(self, claimed: Claimed) -> None:
        self._apart.setdefault(claimed.queue_id, deque()).appendleft(claimed)

    def withdraw_apart(self, queue_id: int) -> list[Claimed]:
        """Everything that waits apart for one queue, in its order."""
        return list(self._apart.pop(queue_id, ()))
