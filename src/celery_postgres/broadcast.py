"""Reading the broadcast log: control, event and reply queues, whose messages many receive and nobody acks.

One row per worker and heartbeat would make a hundred idle workers write thousands of rows a second. Here a
publish is one row, and each receiver remembers the snapshot up to which it has read. The memory is the
process's, which is enough: such a queue belongs to one connection and dies with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .messages import Claimed
from .sql import broadcast as sql

if TYPE_CHECKING:
    from collections.abc import Callable

    from .encoding import Rows
    from .turn import Turn
    from .wire import Call

PAGE = 500


class BroadcastReader:
    """The cursors of one connection's broadcast queues."""

    def __init__(self) -> None:
        self.due = False
        """Whether a read may find something."""
        self._reading = False
        """Whether one is under way: the next one begins where it ends."""
        self._seen: dict[int, str] = {}
        self._page: tuple[list[int], str, str, int, int] | None = None

    @property
    def queue_ids(self) -> list[int]:
        """The queues that are followed."""
        return list(self._seen)

    @property
    def wanted(self) -> bool:
        """Whether a read is due, of any queue, and none under way."""
        return self.due and not self._reading and bool(self._seen)

    @property
    def waits(self) -> bool:
        """Whether a read is due, and has to wait for the one under way."""
        return self.due and self._reading

    def follow(self, queue_id: int, snapshot: str) -> None:
        """Read the queue from a snapshot on; one that is followed already keeps its place."""
        self._seen.setdefault(queue_id, snapshot)
        self.due = True

    def forget(self, queue_id: int) -> None:
        self._seen.pop(queue_id, None)

    def add_to(self, turn: Turn, arrive: Callable[[Claimed], None]) -> None:
        """The next read, if one is due; `arrive(entry)` gets what it finds."""
        if not self.wanted:
            return
        self.due, self._reading = False, True
        turn.on_failure(self.read_again)
        call = self.call()

        def read(rows: Rows) -> None:
            self._reading = False
            for entry in self.take(call, rows):
                arrive(entry)

        turn.add(call, read)

    def read_again(self) -> None:
        """What was under way, if anything was, has not been read."""
        self.due, self._reading = True, False

    def start_over(self) -> None:
        """A crash has emptied the log and gives numbers of transactions out again: all that is there is new.

        `sql.READ` sees that by itself only as long as the server has not come to where it was.
        """
        self._seen = dict.fromkeys(self._seen, sql.NOTHING)
        self._page = None

    def call(self) -> Call:
        """The next read; its rows go to `take`. Reading again after a failure needs nothing else."""
        if self._page is None:
            ids, upper, xid, last_id, last_queue = list(self._seen), None, "0", 0, 0
        else:
            ids, upper, xid, last_id, last_queue = self._page
            ids = [queue_id for queue_id in ids if queue_id in self._seen]
        return sql.READ, (ids, [self._seen[i] for i in ids], upper, xid, last_id, last_queue, PAGE)

    def take(self, call: Call, rows: Rows) -> list[Claimed]:
        """What is new, in order of publication; after a full page another read is due."""
        ids: list[int] = call[1][0]  # type: ignore[assignment]
        upper = call[1][2] or rows.text(0, 0)
        last = rows.count - 1
        if last == PAGE:
            place = (rows.text(last, 0) or "0", rows.integer(last, 1), rows.integer(last, 2))
            self._page = (ids, str(upper), *place)
            self.due = True
        else:
            if self._page is not None:  # bells that rang since the first page are for what comes behind it
                self.due = True
            self._page = None
            for queue_id in ids:
                if queue_id in self._seen:
                    self._seen[queue_id] = str(upper)
        return [Claimed(rows, row, logged=True) for row in range(1, rows.count)]

    @property
    def more(self) -> bool:
        """Whether the last read ended with a full page."""
        return self._page is not None
