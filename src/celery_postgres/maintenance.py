"""What has to be done by the clock, whoever does it: promote what is due, reap the dead, clear away.

Each consuming connection has a thread with a session of its own, so a worker that is busy in its loop still
does its share. One thread at a time sweeps, chosen by a lock; the others look every few seconds whether it
is free. No daemon, no extension, no cron.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING

from .dead_letter import Burial
from .errors import DatabaseRejected, Error
from .liveness import Reaper
from .messages import Claimed, read_claimed, read_ids
from .sql import consumers as consumer_sql
from .sql import messages as message_sql
from .sql import topology as topology_sql
from .topology import Queue, Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from uuid import UUID

    from .connection import Database, Server
    from .wakeup import Bell
    from .wire import Call, Rows, Session

_log = logging.getLogger(__name__)

#: A process that consumes for less than this never opens the session.
_FIRST = 1.0
_TICK = 1.0
#: What is due sooner than this is promoted together.
_SHORTEST = 0.01
_STAND_BY = 2.5
_BEAT = 10.0
_CLEAR = 5.0
_BATCH = 1000
#: Seconds; Celery's control and event queues say themselves how long, in `x-message-ttl`.
_LOG_KEPT = 3600.0


class Maintenance:
    """The thread of one consuming connection."""

    def __init__(
        self, database: Database, bell: Bell, consumer_id: UUID, *, on_declared_dead: Callable[[], None]
    ) -> None:
        """`on_declared_dead()` is called in the thread, when others have given our messages back."""
        self._database = database
        self._options = database.options
        self._bell = bell
        self._consumer_id = consumer_id
        self._on_declared_dead = on_declared_dead
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="celery-postgres-maintenance", daemon=True)
        self._session: Session | None = None
        self._server: Server | None = None
        self._sweeping = False
        self._next_beat = 0.0
        self._next_clear = 0.0
        self._reaper = Reaper(
            self._run, grace=self._options.grace, max_deliveries=self._options.max_deliveries
        )
        self._topology = Topology(self._run, strict=False)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns at once; the session ends with the round that is under way."""
        self._stopped.set()

    def _work(self) -> None:
        pause = _FIRST
        while not self._stopped.wait(pause):
            try:
                if self._session is None or self._session.broken is not None:
                    self._session, self._server = self._database.open()
                    self._sweeping = False
                pause = self._round()
            except Error as exc:
                if self._stopped.is_set():
                    break
                _log.warning("maintenance failed, next try in 1 s: %s", exc)
                pause = _TICK * random.uniform(1.0, 1.5)  # noqa: S311
        if self._session is not None:
            self._session.close()

    def _run(self, *calls: Call) -> list[Rows]:
        assert self._session is not None
        return self._session.run(*calls, timeout=self._options.statement_timeout or None)

    def _round(self) -> float:
        """One round; returns how many seconds to wait for the next."""
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + _BEAT * random.uniform(0.8, 1.0)  # noqa: S311
            if not self._run((consumer_sql.BEAT, (self._consumer_id,)))[0].count:
                self._on_declared_dead()
        if not self._may_sweep():
            return _STAND_BY * random.uniform(0.8, 1.0)  # noqa: S311
        self._attempt("reap", self._reap)
        if now >= self._next_clear:
            self._next_clear = now + _CLEAR
            self._attempt("clear", self._clear)
        self._attempt("bury", self._bury_expired)
        self._attempt("promote", self._promote)
        until_due = self._run((message_sql.NEXT_DUE, ()))[0].number(0, 0)
        return _TICK if until_due is None else min(_TICK, max(_SHORTEST, until_due / 1000))

    def _attempt(self, name: str, duty: Callable[[], None]) -> None:
        """A duty that the server refuses must not keep the others from being done."""
        try:
            duty()
        except DatabaseRejected as exc:
            _log.warning("maintenance (%s) was refused, it will be tried again: %s", name, exc)

    def _reap(self) -> None:
        self._ring(self._reaper.reap())

    def _may_sweep(self) -> bool:
        assert self._server is not None
        if not self._sweeping or self._server.pooled:
            rows = self._run(self._bell.try_sweeper(pooled=self._server.pooled))[0]
            self._sweeping = rows.flag(0, 0)
        return self._sweeping

    def _promote(self) -> None:
        """Make ready what is due."""
        while True:
            rows = self._run((message_sql.PROMOTE, (_BATCH,)))[0]
            self._ring(read_ids(rows.text(0, 0)))
            if rows.integer(0, 1) < _BATCH:
                return

    def _clear(self) -> None:
        self._ring(self._reaper.release_orphans())
        self._run((consumer_sql.TRIM_BROADCAST, (_LOG_KEPT,)))
        self._run((consumer_sql.DROP_STRAYS, ()))
        idle = self._run((consumer_sql.FIND_IDLE_QUEUES, ()))[0]
        for row in range(idle.count):
            _log.info("queue %s is no longer used: deleting it", idle.text(row, 1))
            self._topology.drop_queue(idle.integer(row, 0), if_unused=True)

    def _bury_expired(self) -> None:
        """What waits past its time: dropped, or dead-lettered."""
        claimed = read_claimed(self._run((message_sql.CLAIM_EXPIRED, (self._consumer_id, _BATCH)))[0])
        by_queue: dict[int, list[Claimed]] = {}
        for message in claimed:
            by_queue.setdefault(message.queue_id, []).append(message)
        for queue_id, messages in by_queue.items():
            queue, keep = self._queue(queue_id), self._options.keep_rejected
            self._ring(Burial(self._consumer_id, messages, queue, "expired", keep=keep).run(self._run))

    def _queue(self, queue_id: int) -> Queue | None:
        name = self._run((topology_sql.QUEUE_NAME, (queue_id,)))[0]
        found = self._topology.find(name.text(0, 0) or "") if name.count else None
        return found[0] if found else None

    def _ring(self, queue_ids: Collection[int]) -> None:
        assert self._server is not None
        if queue_ids and self._options.notify:
            self._run(self._bell.ring(queue_ids, pooled=self._server.pooled))
