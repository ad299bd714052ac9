"""Chords: each part of a header counts once, and one process sends the body.

The part that completes a chord is not entered like the others. Its process reads those, prepares the body,
and then stores its result and the body in one transaction: either all of it has happened or none, and then
the part is still missing and its task runs again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import DatabaseRejected, Error
from .results import Encoded, Result, Results, read_encoded
from .sql import chords as sql

if TYPE_CHECKING:
    from .outbox import Outbox
    from .wire import Call

#: A chord whose body was sent is remembered for so many seconds at least, for parts that run a second time.
_REMEMBERED = 86_400.0

#: The position of a part that has none: behind all others.
LAST = 2**31 - 1


@dataclass(frozen=True)
class Part:
    """What one task of a header has returned."""

    group_id: str
    position: int
    task_id: str
    state: str
    encoded: Encoded


@dataclass(frozen=True)
class Returned:
    """What became of a part: `counted`, `repeated`, `last` or `over`; and whether nobody knows the body."""

    verdict: str
    bodiless: bool


class Chords:
    """The chords in one database. Every method blocks for a round trip, and raises as `Results` does."""

    def __init__(self, results: Results, keep_s: float | None) -> None:
        self._results = results
        self._keep_s = keep_s or None

    def _lock(self, group_id: str) -> Call:
        return sql.LOCK, (group_id, self._keep_s)

    def return_part(self, part: Part, result: Result | None) -> Returned:
        """Enter a part and store its result, unless it is the last one: that is left to `dispatch`."""
        encoded = part.encoded
        values = (
            part.group_id,
            part.position,
            part.task_id,
            part.state,
            encoded.content_type,
            encoded.content_encoding,
            encoded.payload,
        )
        calls: list[Call] = [self._lock(part.group_id), (sql.RETURN_PART, values)]
        if result is not None:
            calls.append((sql.STORE_OF_PART, (*result.values(), part.group_id, part.position)))
        # The chord's row is locked until the commit: the other parts do not wait for our disk.
        rows = self._results.commit(*calls, tell=result)[1]
        return Returned(rows.text(0, 0) or "", rows.flag(0, 1))

    def keep_callback(self, group_id: str, callback: Encoded) -> bool:
        """For a chord whose size is not known yet; returns whether all parts are in by now."""
        rows = self._results.run((sql.KEEP_CALLBACK, (group_id, callback.packed())))[0]
        return rows.count > 0 and rows.flag(0, 0)

    def parts(self, group_id: str) -> list[Part] | None:
        """All that are in, in the order of the header; None where they went with the body."""
        rows, over = self._results.run((sql.READ_PARTS, (group_id,)), (sql.IS_OVER, (group_id,)))
        if over.count and over.flag(0, 0):
            return None
        return [
            Part(
                group_id,
                rows.integer(row, 0),
                rows.text(row, 1) or "",
                rows.text(row, 2) or "",
                read_encoded(rows, row, 3),
            )
            for row in range(rows.count)
        ]

    def is_over(self, group_id: str) -> bool:
        """Whether the body was sent; waits for one that is just being sent."""
        over = self._results.run(self._lock(group_id), (sql.IS_OVER, (group_id,)))[1]
        return over.count > 0 and over.flag(0, 0)

    def set_size(self, group_id: str, size: int) -> Encoded | None:
        """Returns the kept body if all parts are in already: then it is the caller's to dispatch."""
        rows = self._results.run(self._lock(group_id), (sql.SET_SIZE, (group_id, size, self._keep_s)))[1]
        kept = rows.raw(0, 1)
        return Encoded.unpacked(kept) if rows.flag(0, 0) and kept is not None else None

    def add(self, group_id: str) -> None:
        """One more part joins. Not to be called again after DatabaseUnavailable: it may have counted."""
        self._results.run((sql.ADD_PART, (group_id, self._keep_s)))

    def dispatch(self, group_id: str, result: Result | None, body: Outbox) -> bool:
        """Close the chord and store, in the same transaction, the last part's result and the body's messages.

        False if another process was first: then nothing of it has happened.
        """
        calls: list[Call] = [self._lock(group_id), (sql.DISPATCH, (group_id, self._keep_s or _REMEMBERED))]
        if result is not None:
            calls.append(result.call())
        try:
            if len(body):
                body.publish(*calls)
            else:
                self._results.run(*calls)
        except DatabaseRejected as exc:
            if exc.sqlstate == sql.TOO_LATE:
                return False
            raise
        if result is not None:
            with suppress(Error):  # a hint, of what has happened: who uses this session next says what it has
                self._results.wake(result)
        return True
