"""Who is alive: consumer incarnations, and what becomes of the messages of those that are gone.

A claim belongs to an incarnation, never to a clock. The incarnation's session holds an advisory lock that
the server frees with the session; behind a pooler its beat speaks instead. Whoever sweeps looks for
incarnations whose lock is free, waits for `grace` seconds of its own monotonic clock, because a live one
whose session was cut takes its lock again, and then gives their messages back.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from typing import TYPE_CHECKING

from .sql import consumers as sql

if TYPE_CHECKING:
    from .topology import Run
    from .wire import Call

_log = logging.getLogger(__name__)


class Incarnation:
    """One consuming connection of one process, for as long as it lives."""

    def __init__(self) -> None:
        self.id = uuid.uuid4()
        self.lock_key = int.from_bytes(self.id.bytes[:8], "big", signed=True)

    def register(self, *, pooled: bool) -> list[Call]:
        calls: list[Call] = [
            (sql.REGISTER, (self.id, self.lock_key, pooled, socket.gethostname(), os.getpid()))
        ]
        if not pooled:
            calls.append((sql.HOLD, (self.lock_key,)))
        return calls

    def deregister(self) -> Call:
        return sql.DEREGISTER, (self.id,)


class Reaper:
    """Finds the dead and gives back what they held. One works at a time; any may take over."""

    def __init__(self, run: Run, *, grace: float, max_deliveries: int) -> None:
        self._run = run
        self._grace = grace
        self._max_deliveries = max_deliveries
        self._missing: dict[str, float] = {}

    def reap(self) -> list[int]:
        """Returns the queues that have something to claim again."""
        rows = self._run((sql.FIND_LOST, ()))[0]
        now = time.monotonic()
        lost = {rows.text(row, 0) or "": row for row in range(rows.count)}
        self._missing = {id_: self._missing.get(id_, now) for id_ in lost}
        released: list[int] = []
        for id_, since in list(self._missing.items()):
            if now - since >= self._grace:
                row = lost[id_]
                released += self._give_back(id_, rows.text(row, 1) or "?", rows.number(row, 2))
                del self._missing[id_]
        return released

    def _give_back(self, consumer_id: str, host: str, pid: int | None) -> list[int]:
        freed = self._run((sql.REAP, (consumer_id, self._max_deliveries)))[0]
        queues = []
        total = buried = 0
        for row in range(freed.count):
            queues.append(freed.integer(row, 0))
            total += freed.integer(row, 2)
            buried += freed.integer(row, 2) - freed.integer(row, 1)
        if total:
            _log.warning(
                "consumer %s (process %s on %s) is gone: %d of its messages are ready again, %d went to "
                "dead_letter after too many deliveries",
                consumer_id,
                pid,
                host,
                total - buried,
                buried,
            )
        return queues

    def release_orphans(self) -> list[int]:
        """What a consumer claimed in the moment in which it was declared dead."""
        rows = self._run((sql.RELEASE_ORPHANS, (2 * self._grace + 1,)))[0]
        return [rows.integer(row, 0) for row in range(rows.count)]
