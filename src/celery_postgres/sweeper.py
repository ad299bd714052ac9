"""The sweeper's round: reap the dead, promote what is due, bury what has expired, clear away."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from .dead_letter import Burial
from .errors import DatabaseRejected
from .messages import Claimed, read_claimed, read_ids
from .reaper import Reaper
from .sql import consumers as consumer_sql
from .sql import dead as dead_sql
from .sql import messages as message_sql
from .sql import topology as topology_sql
from .topology import Queue, Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from uuid import UUID

    from .options import Options
    from .topology import Run
    from .watch import Watch

_log = logging.getLogger(__name__)

#: Between two looks for lost sessions; longer where all others are neighbours, who are watched besides.
_LOOK = 0.25
_LOOK_AT_NEIGHBOURS = 1.0
#: This tells of new neighbours, too.
_LOOK_AT_BEATS = 1.0
_PROMOTE = 1.0
#: What is due sooner than this is promoted together.
_SHORTEST = 0.01
_CLEAR = 5.0
_BATCH = 1000
#: Seconds; a retry that comes later than this may double a message, see `publish_dedup`.
_PUBLISHED_KEPT = 600.0
_TRIMS_AT_MOST = 10
#: They come with their bodies.
_BURIED_AT_ONCE = 50
_BURIALS_AT_MOST = 20
#: Seconds; Celery's control and event queues say themselves how long, in `x-message-ttl`.
_LOG_KEPT = 3600.0


class Sweeper:
    """For one thread and its session; whoever has several at a time does nothing wrong, only twice."""

    def __init__(
        self,
        run: Run,
        consumer_id: UUID,
        options: Options,
        watch: Watch,
        *,
        ring: Callable[[Collection[int]], None],
        beat: Callable[[], None],
    ) -> None:
        """`ring(queue ids)` wakes who waits for these; `beat()` is called again and again in long work."""
        self._run = run
        self._consumer_id = consumer_id
        self._options = options
        self._watch = watch
        self._ring = ring
        self._beat = beat
        self._reaper = Reaper(run, consumer_id, options)
        self._topology = Topology(run, strict=False)
        self._next_look = self._next_beats = self._next_promotion = self._next_clear = 0.0
        self._due_at = math.inf

    @property
    def others(self) -> int:
        """How many consumers there are beside ours, as of the last look at their beats."""
        return len(self._reaper.processes)

    def seconds_to_due(self) -> float:
        """Until a message that is held for later is due, as far as is known."""
        return max(_SHORTEST, self._due_at - time.monotonic())

    def stands_still(self, consumer_id: str, beat: int) -> float:
        """For how many seconds a consumer was seen with this beat."""
        return self._reaper.stands_still(consumer_id, beat)

    def begin(self) -> None:
        """From now on it is this one that sweeps."""
        self._reaper.begin()
        self._next_look = self._next_beats = self._next_promotion = self._next_clear = 0.0

    def round(self, *, hurried: bool) -> float:
        """Do what is due; returns how many seconds to wait for the next round.

        `hurried` when a neighbour has just ended: its locks may be free in a few milliseconds.
        """
        now = time.monotonic()
        if hurried or self._reaper.suspects or now >= self._next_beats:
            self._next_beats = now + _LOOK_AT_BEATS
            self._attempt("look at the beats", self._reap_silent)
        if hurried or now >= self._next_look:
            self._attempt("reap", lambda: self._ring(self._reaper.reap_lost()))
            rare = self._watch.sees_all(self._reaper.processes) and not self._reaper.suspects
            self._next_look = now + (_LOOK_AT_NEIGHBOURS if rare else _LOOK)
        if now >= self._next_clear:
            self._next_clear = now + _CLEAR
            self._attempt("clear", self._clear)
        if now >= self._next_promotion:
            self._next_promotion = now + _PROMOTE
            self._attempt("bury", self._bury_expired)
            self._attempt("promote", self._promote)
        due = min(self._next_look, self._next_beats, self._next_promotion, self._next_clear)
        return max(0.0, due - time.monotonic())

    def _attempt(self, name: str, duty: Callable[[], None]) -> None:
        """A duty that the server refuses must not keep the others from being done."""
        try:
            duty()
        except DatabaseRejected as exc:
            _log.warning("maintenance (%s) was refused, it will be tried again: %s", name, exc)
        self._beat()

    def _reap_silent(self) -> None:
        self._ring(self._reaper.reap_silent())
        self._watch.keep(self._reaper.processes)

    def _promote(self) -> None:
        """Make ready what is due, and come again when more is."""
        while True:
            rows = self._run((message_sql.PROMOTE, (_BATCH,)))[0]
            self._ring(read_ids(rows.text(0, 0)))
            if rows.integer(0, 1) < _BATCH:
                break
            self._beat()
        until_due = self._run((message_sql.NEXT_DUE, ()))[0].number(0, 0)
        self._due_at = math.inf if until_due is None else time.monotonic() + until_due / 1000
        self._next_promotion = min(self._next_promotion, time.monotonic() + self.seconds_to_due())

    def _forget_published(self) -> None:
        """The traces of publish calls that are retried no more; of very many, some in each round."""
        for _ in range(_TRIMS_AT_MOST):
            rows = self._run((message_sql.FORGET_PUBLISHED, (_PUBLISHED_KEPT, _BATCH)))[0]
            if rows.integer(0, 0) < _BATCH:
                return
            self._beat()
        self._next_clear = time.monotonic()  # more of them, behind the other duties

    def _clear(self) -> None:
        self._ring(self._reaper.release_orphans())
        self._run((consumer_sql.TRIM_BROADCAST, (_LOG_KEPT,)))
        self._run((consumer_sql.DROP_STRAYS, ()))
        self._forget_published()
        self._trim_dead()
        idle = self._run((consumer_sql.FIND_IDLE_QUEUES, ()))[0]
        for row in range(idle.count):
            _log.info("queue %s is no longer used: deleting it", idle.text(row, 1))
            self._topology.drop_queue(idle.integer(row, 0), if_unused=True)

    def _trim_dead(self) -> None:
        """Forget what has been dead for longer than is wanted; of very many, some in each round."""
        keep = self._options.dead_letter_keep
        if not keep:
            return
        gone = 0
        for _ in range(_TRIMS_AT_MOST):
            trimmed = self._run((dead_sql.TRIM, (keep, _BATCH)))[0].integer(0, 0)
            gone += trimmed
            if trimmed < _BATCH:
                break
            self._beat()
        if gone:
            _log.info("%d dead letters were older than dead_letter_keep (%g s): deleted", gone, keep)

    def _bury_expired(self) -> None:
        """What waits past its time: dropped, or dead-lettered."""
        for _ in range(_BURIALS_AT_MOST):
            # For a consumer that does not exist: if this process or its session ends in between, they return.
            nobody = uuid4()
            claimed = read_claimed(self._run((message_sql.CLAIM_EXPIRED, (nobody, _BURIED_AT_ONCE)))[0])
            by_queue: dict[int, list[Claimed]] = {}
            for message in claimed:
                by_queue.setdefault(message.queue_id, []).append(message)
            for queue_id, messages in by_queue.items():
                queue, keep = self._queue(queue_id), self._options.keep_rejected
                self._ring(Burial(nobody, messages, queue, "expired", keep=keep).run(self._run))
            if len(claimed) < _BURIED_AT_ONCE:
                return
            self._beat()
        self._next_promotion = time.monotonic()

    def _queue(self, queue_id: int) -> Queue | None:
        name = self._run((topology_sql.QUEUE_NAME, (queue_id,)))[0]
        found = self._topology.find(name.text(0, 0) or "") if name.count else None
        return found[0] if found else None
