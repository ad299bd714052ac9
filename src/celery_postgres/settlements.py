"""What consumers said about their deliveries, until the server has confirmed it.

Not safe between threads: the caller holds the session's lock.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from .dead_letter import Burial
from .held import ack_call, release_call
from .messages import Claimed, read_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from uuid import UUID

    from .encoding import Rows
    from .held import Held
    from .topology import Queue
    from .turn import Turn
    from .wire import Call

_log = logging.getLogger(__name__)

#: How many deliveries one statement settles: it looks for each number in the list of all.
AT_ONCE = 500


class Settlements:
    """Acknowledgements, releases and rejections that wait for the next turn."""

    def __init__(self, consumer_id: UUID, held: Held, *, keep_rejected: bool) -> None:
        self._held = held
        self._tried: set[Claimed] = set()
        """Whose acknowledgement or rejection was sent, and the answer did not come."""
        self._consumer_id = consumer_id
        self._keep_rejected = keep_rejected
        self._acks: list[Claimed] = []
        self._releases: list[Claimed] = []
        self._rejects: list[tuple[Claimed, str]] = []

    def __len__(self) -> int:
        return len(self._acks) + len(self._releases) + len(self._rejects)

    @property
    def final(self) -> int:
        """How many are over for good, unlike those that are given back."""
        return len(self._acks) + len(self._rejects)

    @property
    def can_wait(self) -> bool:
        """Whether nobody else waits for them: an acknowledgement makes room, what returns is wanted."""
        return bool(self._acks) and not self._releases and not self._rejects

    def ack(self, claimed: Claimed) -> None:
        self._acks.append(claimed)

    def release(self, claimed: Iterable[Claimed]) -> None:
        self._releases.extend(claimed)

    def reject(self, claimed: Claimed, reason: str) -> None:
        self._rejects.append((claimed, reason))

    def lose(self, lost: Collection[Claimed], taken: Collection[Claimed]) -> list[Claimed]:
        """These are not held any more: what was said of them is not sent, as it might hit another message.

        Returns those that another consumer has, or had: all but what we gave back, and what is gone since an
        acknowledgement of ours was received. One that was sent may have been, unless the message is `taken`;
        and a rejection may have been in any case, since what it leaves in dead_letter looks as if it were.
        """
        gone = set(lost)
        received = self._tried.difference(taken)
        for claimed in self._acks:
            if claimed in gone and claimed not in self._tried:
                self.too_late(claimed)
        acknowledged = [claimed for claimed in self._acks if claimed in gone and claimed in received]
        if acknowledged:
            self._held.settled(acknowledged, ack_call(self._consumer_id, acknowledged))
        given_back = {*self._releases, *(claimed for claimed, _ in self._rejects if claimed in self._tried)}
        self._tried.clear()
        self._acks = [claimed for claimed in self._acks if claimed not in gone]
        self._releases = [claimed for claimed in self._releases if claimed not in gone]
        self._rejects = [(claimed, reason) for claimed, reason in self._rejects if claimed not in gone]
        return [claimed for claimed in lost if claimed not in given_back and claimed not in received]

    def add_to(
        self, turn: Turn, queue: Callable[[int], Queue | None], refilled: Callable[[Iterable[int]], None]
    ) -> None:
        """Move everything into a turn; it comes back if the turn fails.

        `queue(id)` tells what a queue does with what is rejected; `refilled(ids)` hears which queues have
        something to claim again.
        """
        self._add_acks(turn)
        self._add_releases(turn, refilled)
        self._add_rejects(turn, queue, refilled)

    def _add_acks(self, turn: Turn) -> None:
        acks, self._acks = self._acks, []
        turn.on_failure(lambda: self._put_back(acks))
        for some in _slices(acks):
            call = ack_call(self._consumer_id, some)
            turn.add(call, partial(self._acked, some, call))

    def _put_back(self, acks: list[Claimed]) -> None:
        self._acks.extend(acks)
        self._tried.update(acks)

    def _acked(self, acks: Sequence[Claimed], call: Call, rows: Rows) -> None:
        self._tried.difference_update(acks)
        text = rows.text(0, 0)
        if text is not None:
            matched = set(read_ids(text))
            late = [claimed for claimed in acks if claimed.message_id not in matched]
            for claimed in late:
                self.too_late(claimed)
            self._held.drop(late)
            acks = [claimed for claimed in acks if claimed.message_id in matched]
        self._held.settled(acks, call)

    def _add_releases(self, turn: Turn, refilled: Callable[[Iterable[int]], None]) -> None:
        releases, self._releases = self._releases, []
        turn.on_failure(lambda: self._releases.extend(releases))
        for some in _slices(releases):
            call = release_call(self._consumer_id, some)
            turn.add(call, partial(self._released, some, call, refilled))

    def _released(
        self, releases: Sequence[Claimed], call: Call, refilled: Callable[[Iterable[int]], None], rows: Rows
    ) -> None:
        self._held.settled(releases, call)
        refilled(rows.integer(row, 0) for row in range(rows.count))

    def _add_rejects(
        self, turn: Turn, queue: Callable[[int], Queue | None], refilled: Callable[[Iterable[int]], None]
    ) -> None:
        rejects, self._rejects = self._rejects, []
        turn.on_failure(lambda: self._put_rejects_back(rejects))
        by_queue: dict[tuple[int, str], list[Claimed]] = {}
        for message, reason in rejects:
            by_queue.setdefault((message.queue_id, reason), []).append(message)
        for (queue_id, reason), messages in by_queue.items():
            for some in _slices(messages):
                burial = Burial(self._consumer_id, some, queue(queue_id), reason, keep=self._keep_rejected)
                for call, reader in burial.steps(refilled):
                    turn.add(call, reader)
                turn.on_success(partial(self._buried, some, burial))

    def _put_rejects_back(self, rejects: list[tuple[Claimed, str]]) -> None:
        self._rejects.extend(rejects)
        self._tried.update(claimed for claimed, _ in rejects)

    def _buried(self, rejected: Sequence[Claimed], burial: Burial) -> None:
        self._tried.difference_update(rejected)
        self._held.settled(rejected, burial.repeatable)

    def too_late(self, claimed: Claimed) -> None:
        """It is not ours any more, so nothing is sent for it."""
        _log.warning(
            "the acknowledgement of message %d (task %s) came too late: it was given to another consumer, or "
            "its queue was deleted",
            claimed.message_id,
            claimed.task_id,
        )


def _slices(claimed: list[Claimed]) -> Iterator[list[Claimed]]:
    return (claimed[start : start + AT_ONCE] for start in range(0, len(claimed), AT_ONCE))
