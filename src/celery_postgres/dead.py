"""Dead letters as people deal with them: list, read, redrive, discard.

What lies in `dead_letter` is the message itself, untouched, with the reason, the queue it came from and how
often it was delivered. Redriving gives back that same message, never a copy of it. Messages that went through
a dead-letter exchange are alive, in another queue, and none of this concerns them.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .jobs import instant, pattern
from .sql import dead as sql

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .encoding import Rows
    from .wakeup import Bell
    from .wire import Session

#: Why a message may be dead.
REASONS = ("rejected", "expired", "maxlen", "max_deliveries")

#: So many are redriven or discarded in one transaction.
BATCH = 500

_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter. `queue` is where it came from, None where that was gone when it died."""

    message_id: int
    task_id: str | None
    name: str | None
    queue: str | None
    reason: str
    died_on: datetime | None
    deliveries: int
    created_on: datetime | None
    priority: int
    exchange: str
    routing_key: str


@dataclass(frozen=True)
class Content:
    """What a dead letter says."""

    content_type: str | None
    content_encoding: str | None
    headers: dict[str, Any]
    properties: dict[str, Any]
    body: bytes


@dataclass(frozen=True)
class Filter:
    """Which dead letters. `name` may hold `*` for anything; died at `since` or later, and before `before`."""

    queue: str | None = None
    name: str | None = None
    reason: str | None = None
    since: datetime | None = None
    before: datetime | None = None

    @property
    def values(self) -> tuple[object, ...]:
        return (
            self.queue,
            None if self.name is None else pattern(self.name),
            self.reason,
            "-infinity" if self.since is None else self.since.isoformat(),
            "infinity" if self.before is None else self.before.isoformat(),
        )


@dataclass(frozen=True)
class Origin:
    """How many dead letters came from one queue, and whether they can go back there."""

    queue: str | None
    exists: bool
    dead: int


@dataclass
class Redriven:
    """What became of some dead letters, by the names of the queues."""

    moved: Counter[str] = field(default_factory=Counter)
    homeless: Counter[str | None] = field(default_factory=Counter)
    """Those whose queue does not exist: they are dead as before."""
    expired: int = 0
    """Of the moved: past Celery's `expires`, so that a worker will mark them as revoked and not run them."""

    def add(self, other: Redriven) -> None:
        self.moved.update(other.moved)
        self.homeless.update(other.homeless)
        self.expired += other.expired


class DeadLetters:
    """Over one session. Each method blocks for its round trips; not for use by several threads."""

    def __init__(self, session: Session, timeout: float | None, bell: Bell | None) -> None:
        """`bell` wakes consumers of what is redriven; without it they find it with their next poll."""
        self._session = session
        self._timeout = timeout
        self._bell = bell

    # -- looking --------------------------------------------------------------------------------------

    def last(self, chosen: Filter, limit: int) -> list[DeadLetter]:
        """Those that died last, the last one first."""
        rows = self._session.run((sql.LIST, (*chosen.values, limit)), timeout=self._timeout)[0]
        return [_dead_letter(rows, row) for row in range(rows.count)]

    def count(self, chosen: Filter) -> list[Origin]:
        """How many there are, by the queue that they came from. Looks at each of them."""
        rows = self._session.run((sql.COUNT, chosen.values), timeout=self._timeout)[0]
        return [Origin(rows.text(r, 0), rows.flag(r, 1), rows.integer(r, 2)) for r in range(rows.count)]

    def identify(self, ids: Sequence[str]) -> dict[str, list[int]]:
        """Which dead letters are meant by message ids and task ids: their message ids, none where none is.

        A task may have several.
        """
        numbers = [int(id_) for id_ in ids if id_.isascii() and id_.isdigit() and int(id_) <= _LARGEST_ID]
        rows = self._session.run((sql.IDENTIFY, (numbers, list(ids))), timeout=self._timeout)[0]
        meant: dict[str, list[int]] = {id_: [] for id_ in ids}
        for row in range(rows.count):
            message_id = rows.integer(row, 0)
            for known in {str(message_id), rows.text(row, 1)} & set(meant):
                meant[known or ""].append(message_id)
        return meant

    def read(self, message_ids: Sequence[int]) -> list[tuple[DeadLetter, Content]]:
        """Everything about some, the last that died first."""
        rows = self._session.run((sql.READ, (list(message_ids),)), timeout=self._timeout)[0]
        return [(_dead_letter(rows, row), _content(rows, row)) for row in range(rows.count)]

    def queues(self) -> list[str]:
        """The names of all queues into which messages can be put."""
        rows = self._session.run((sql.QUEUES, ()), timeout=self._timeout)[0]
        return [rows.text(row, 0) or "" for row in range(rows.count)]

    # -- acting: in small transactions, each of which is done when its outcome is told ------------------

    def redrive(
        self,
        chosen: Filter | Sequence[int],
        *,
        to: str | None = None,
        unexpire: bool = False,
        limit: int | None = None,
    ) -> Iterator[Redriven]:
        """Give them back to the queues that they came from, or to another one.

        They take the places of their publication, with their priorities. Deliveries are counted anew; what
        was delivered before stays marked as redelivered. The time to live begins anew; with `unexpire`,
        Celery's own `expires` is taken away as well. A message whose queue does not exist stays dead.
        """
        for ids in self._batches(chosen, limit):
            rows = self._session.run((sql.REDRIVE, (ids, to, unexpire)), timeout=self._timeout)[0]
            queue_ids = {rows.integer(row, 0) for row in range(rows.count) if rows.raw(row, 0) is not None}
            if queue_ids and self._bell is not None:
                # Whether anybody waits is not worth a question here.
                self._session.run(self._bell.ring(queue_ids, pooled=True), timeout=self._timeout)
            yield _redriven(rows)

    def discard(self, chosen: Filter | Sequence[int], *, limit: int | None = None) -> Iterator[int]:
        """Delete them for good; yields how many each time. Nobody who waits for a result is told."""
        for ids in self._batches(chosen, limit):
            yield self._session.run((sql.DISCARD, (ids,)), timeout=self._timeout)[0].integer(0, 0)

    def _batches(self, chosen: Filter | Sequence[int], limit: int | None) -> Iterator[list[int]]:
        """Oldest publications first. A message that dies again meanwhile does not come a second time."""
        if not isinstance(chosen, Filter):
            ids = sorted(set(chosen))[:limit]
            yield from (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))
            return
        last, left = 0, limit
        while left is None or left > 0:
            size = BATCH if left is None else min(BATCH, left)
            rows = self._session.run((sql.PICK, (*chosen.values, last, size)), timeout=self._timeout)[0]
            ids = [rows.integer(row, 0) for row in range(rows.count)]
            if ids:
                yield ids
                last = ids[-1]
            if len(ids) < size:
                return
            left = None if left is None else left - len(ids)


def _dead_letter(rows: Rows, row: int) -> DeadLetter:
    return DeadLetter(
        message_id=rows.integer(row, 0),
        task_id=rows.text(row, 1),
        name=rows.text(row, 2),
        queue=rows.text(row, 3),
        reason=rows.text(row, 4) or "",
        died_on=instant(rows, row, 5),
        deliveries=rows.integer(row, 6),
        created_on=instant(rows, row, 7),
        priority=rows.integer(row, 8),
        exchange=rows.text(row, 9) or "",
        routing_key=rows.text(row, 10) or "",
    )


def _content(rows: Rows, row: int) -> Content:
    return Content(
        content_type=rows.text(row, 11),
        content_encoding=rows.text(row, 12),
        headers=json.loads(rows.raw(row, 13) or b"{}", parse_constant=str),
        properties=json.loads(rows.raw(row, 14) or b"{}", parse_constant=str),
        body=rows.raw(row, 15) or b"",
    )


def _redriven(rows: Rows) -> Redriven:
    done = Redriven()
    for row in range(rows.count):
        name = rows.text(row, 1)
        if rows.raw(row, 0) is None:
            done.homeless[name] += 1
            continue
        done.moved[name or ""] += 1
        done.expired += _is_past(rows.text(row, 2), instant(rows, row, 3))
    return done


def _is_past(expires: str | None, now: datetime | None) -> bool:
    """By the server's clock. Celery writes the offset; what has none, the worker reads in its own zone."""
    if expires is None or now is None:
        return False
    try:
        until = datetime.fromisoformat(expires.replace("Z", "+00:00"))
    except ValueError:
        return False
    return (until if until.tzinfo else until.replace(tzinfo=timezone.utc)) <= now
