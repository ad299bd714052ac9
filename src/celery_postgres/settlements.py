"""What consumers said about their deliveries, until the server has confirmed it.

Not safe between threads: the caller holds the session's lock.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .dead_letter import Burial
from .messages import Claimed, read_ids, settle_arguments
from .sql import messages as sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from uuid import UUID

    from .topology import Queue
    from .turn import Turn
    from .wire import Rows

_log = logging.getLogger(__name__)

#: How many deliveries one statement settles: it looks for each number in the list of all.
AT_ONCE = 500


class Settlements:
    """Acknowledgements, releases and rejections that wait for the next turn."""

    def __init__(self, consumer_id: UUID, *, keep_rejected: bool) -> None:
        self.stale = 0
        """How many acknowledgements came too late."""
        self._consumer_id = consumer_id
        self._keep_rejected = keep_rejected
        self._acks: list[Claimed] = []
        self._releases: list[Claimed] = []
        self._rejects: list[tuple[Claimed, str]] = []

    def __len__(self) -> int:
        return len(self._acks) + len(self._releases) + len(self._rejects)

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
        turn.on_failure(lambda: self._acks.extend(acks))
        for some in _slices(acks):
            values = settle_arguments(self._consumer_id, some)
            turn.add((sql.ACK, values), lambda rows, some=some: self._count_stale(some, rows))  # type: ignore[misc]

    def _add_releases(self, turn: Turn, refilled: Callable[[Iterable[int]], None]) -> None:
        releases, self._releases = self._releases, []
        turn.on_failure(lambda: self._releases.extend(releases))
        for some in _slices(releases):
            turn.add(
                (sql.RELEASE, settle_arguments(self._consumer_id, some)),
                lambda rows: refilled(rows.integer(row, 0) for row in range(rows.count)),
            )

    def _add_rejects(
        self, turn: Turn, queue: Callable[[int], Queue | None], refilled: Callable[[Iterable[int]], None]
    ) -> None:
        rejects, self._rejects = self._rejects, []
        turn.on_failure(lambda: self._rejects.extend(rejects))
        by_queue: dict[tuple[int, str], list[Claimed]] = {}
        for message, reason in rejects:
            by_queue.setdefault((message.queue_id, reason), []).append(message)
        for (queue_id, reason), messages in by_queue.items():
            for some in _slices(messages):
                burial = Burial(self._consumer_id, some, queue(queue_id), reason, keep=self._keep_rejected)
                for call, reader in burial.steps(refilled):
                    turn.add(call, reader)

    def _count_stale(self, acks: Sequence[Claimed], rows: Rows) -> None:
        matched = rows.text(0, 0)
        if matched is None:
            return
        known = set(read_ids(matched))
        for claimed in acks:
            if claimed.message_id not in known:
                self.stale += 1
                _log.warning(
                    "the acknowledgement of message %d came too late: it was given to another consumer, or "
                    "its queue was deleted",
                    claimed.message_id,
                )


def _slices(claimed: list[Claimed]) -> Iterator[list[Claimed]]:
    return (claimed[start : start + AT_ONCE] for start in range(0, len(claimed), AT_ONCE))
