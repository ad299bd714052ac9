"""What has to be done by the clock, whoever does it: beat, and sweep or stand by to sweep.

Each consuming connection has a thread with a session of its own, so a worker that is busy in its loop still
does its share. One thread at a time sweeps, chosen by a lock. The others stand by: they watch the sweeper's
process where it is a neighbour, and look in turn whether the lock is free. No daemon, no extension, no cron.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING
from uuid import UUID

from .backoff import Backoff
from .errors import DatabaseUnavailable, Error
from .liveness import BACKENDS, read_process
from .reaper import end_sessions
from .sql import consumers as sql
from .sweeper import Sweeper
from .watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from .connection import Database, Server
    from .encoding import Rows
    from .liveness import Incarnation
    from .topology import Queue
    from .wakeup import Bell
    from .wire import Call, Session

_log = logging.getLogger(__name__)

#: A process that consumes for less than this never opens the session.
_FIRST = 1.0
#: Seconds between attempts to have a session again, well within the shortest `grace`; and after a refusal.
_RECONNECT = (0.05, 1.0)
_RECONNECT_CROWDED = (0.05, 10.0)
_RETRY = 1.0
#: The same complaint is repeated in the log after this many seconds.
_SAY_AGAIN = 30.0
_BEAT = 15.0
#: So that 30 s without one are three that failed to come.
_BEAT_POOLED = 10.0
#: So that those who stand by see soon that the sweeper stands still.
_BEAT_SWEEPING = 5.0
#: Whoever is to be seen standing still has missed so many.
_BEATS_PER_STALL = 4
#: How often those who stand by look at the lock, all together; and each of them at least and at most.
_LOOKS_PER_S = 4.0
_LOOK_AT_LEAST = 8.0
_LOOK_AT_NEIGHBOUR = 2.5
#: A sweeper that does not beat for so much longer than a statement may take has its sweeping taken away.
_SWEEPER_PATIENCE = 10.0
_STATEMENT = 30.0
#: After the end of a neighbour: the server frees its locks some milliseconds later.
_HURRY = (0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.2, 0.4)


class Maintenance:
    """The thread of one consuming connection."""

    def __init__(
        self,
        database: Database,
        bell: Bell,
        incarnation: Incarnation,
        *,
        on_declared_dead: Callable[[bool], None],
        beat_aside: Callable[[Call], object],
        consumed: Callable[[], Sequence[Queue]],
        on_deleted: Callable[[Sequence[Queue]], None],
    ) -> None:
        """`on_declared_dead(crashed)` is called in the thread, when others have given our messages back.

        So is `on_deleted(queues)`, with those of `consumed()` that are gone; this has one for each
        subscription.
        `beat_aside(call)` sends the beat over another session, as long as this thread can have none: a
        worker that finds no free connection is alive all the same. It may raise DatabaseUnavailable.
        """
        self._database = database
        self._options = database.options
        self._bell = bell
        self._incarnation = incarnation
        self._on_declared_dead = on_declared_dead
        self._beat_aside = beat_aside
        self._consumed = consumed
        self._on_deleted = on_deleted
        self._stopped = False
        self._watch = Watch()
        self._thread = threading.Thread(target=self._work, name="celery-postgres-maintenance", daemon=True)
        self._session: Session | None = None
        self._server: Server | None = None
        self._timeout = self._options.statement_timeout or None
        self._backends: deque[int] = deque(maxlen=BACKENDS)
        """Process ids of those of our sessions that the server may still believe in."""
        self._sweeping = False
        self._failures = _Failures()
        self._next_beat = 0.0
        self._next_look = 0.0
        self._neighbour = False
        """Whether the sweeper's process is watched."""
        self._sweeper = Sweeper(
            self._run, incarnation.id, self._options, self._watch, ring=self._ring, beat=self._beat
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns at once; the session ends with the round that is under way."""
        self._stopped = True
        self._watch.wake()

    def _work(self) -> None:
        pause = _FIRST
        hurry: Iterator[float] = iter(())
        while not self._stopped:
            if self._watch.wait(pause, self._descriptor()):
                hurry = iter(_HURRY)
            if self._stopped:
                break
            soon = next(hurry, None)
            try:
                self._open()
                pause = self._round(hurried=soon is not None)
                self._failures.over()
            except Error as exc:
                pause = self._failed(exc)
            except Exception as exc:  # noqa: BLE001  whatever it is
                # Without this thread nobody would see that this consumer lives.
                _log.exception("maintenance failed, trying again")
                pause = self._failed(DatabaseUnavailable(f"maintenance failed: {exc!r}"))
            if soon is not None:
                pause = min(pause, soon)
        if self._session is not None:
            self._session.close()
        self._watch.close()

    def _failed(self, exc: Error) -> float:
        """Returns how long to wait."""
        if self._stopped:
            return 0.0
        self._show_life()
        return self._failures.met(exc, lost=not self._home())

    # -- our own life --------------------------------------------------------------------------------

    def _open(self) -> None:
        """Have a session that holds the second lock of our consumer."""
        if self._home():
            return
        self._sweeping = False
        self._next_look = 0.0
        session, server = self._database.open()
        try:
            calls = self._incarnation.resume(self._incarnation.beat_key, self._backends, pooled=server.pooled)
            self._backends.append(session.backend_pid)
            resumed = self._incarnation.resumed(session.run(*calls, timeout=self._timeout))
        except BaseException:
            session.close()  # without its lock it would be no sign of life
            raise
        self._session, self._server = session, server
        if not resumed.known:
            self._declared_dead(crashed=not resumed.in_order)

    def _run(self, *calls: Call) -> list[Rows]:
        assert self._session is not None
        return self._session.run(*calls, timeout=self._timeout)

    def _beat(self) -> None:
        if not self._beat_is_due():
            return
        consumed = self._consumed()
        beat = self._run(self._incarnation.beat())[0]
        if not beat.count:
            self._declared_dead(crashed=False)
        elif beat.integer(0, 0) < len(consumed):  # or one was cancelled just now
            self._look_for_deleted(consumed)

    def _look_for_deleted(self, consumed: Sequence[Queue]) -> None:
        """A queue that was deleted and declared again has another id, and nobody would claim from that."""
        rows = self._run((sql.QUEUES_LEFT, ([queue.id for queue in consumed],)))[0]
        left = {rows.integer(row, 0) for row in range(rows.count)}
        gone = [queue for queue in consumed if queue.id not in left]
        if gone and not self._stopped:
            self._on_deleted(gone)

    def _beat_is_due(self) -> bool:
        now = time.monotonic()
        if now < self._next_beat:
            return False
        pooled = self._server is not None and self._server.pooled
        pause = _BEAT_SWEEPING if self._sweeping else _BEAT_POOLED if pooled else _BEAT
        pause = min(pause, self._options.stall_timeout / _BEATS_PER_STALL)
        self._next_beat = now + pause * random.uniform(0.8, 1.0)  # noqa: S311
        return True

    def _home(self) -> bool:
        """Whether there is a session, as far as its socket tells."""
        return self._session is not None and self._session.alive()

    def _descriptor(self) -> int | None:
        """What tells that the session is lost: nothing else comes unasked."""
        if self._session is None or self._session.broken is not None:
            return None
        return self._session.fileno()

    def _show_life(self) -> None:
        """Beat without the session."""
        if not self._home() and self._beat_is_due():
            try:
                self._beat_aside(self._incarnation.beat())
            except DatabaseUnavailable:  # then both are gone, and that is what the others see
                pass

    def _declared_dead(self, *, crashed: bool) -> None:
        if not self._stopped:
            self._stopped = True
            self._on_declared_dead(crashed)

    # -- rounds --------------------------------------------------------------------------------------

    def _round(self, *, hurried: bool) -> float:
        """One round; returns how many seconds to wait for the next."""
        assert self._server is not None
        self._beat()
        now = time.monotonic()
        if not self._sweeping and (hurried or now >= self._next_look):
            self._take_over()
            self._next_look = now + self._turn()
        pause = max(0.0, self._next_look - now)
        if self._sweeping:
            pause = self._sweeper.round(hurried=hurried)
            self._incarnation.crowd = 1 + self._sweeper.others
            if self._server.pooled:  # the lock was held for the look alone: now it is another one's turn
                self._sweeping = False
                self._next_look = min(self._next_look, now + self._sweeper.seconds_to_due())
                pause = self._next_look - now
        return min(pause, max(0.0, self._next_beat - time.monotonic()))

    def _take_over(self) -> None:
        """Sweep from now on, if nobody does; else see who it is."""
        assert self._server is not None
        pooled = self._server.pooled
        found = self._run(self._bell.stand_by(pooled=pooled))[0]
        self._sweeping = found.flag(0, 0)
        self._incarnation.crowd = found.integer(0, 1)
        if not self._sweeping:
            self._look_after(found)
        elif not pooled:
            self._run((sql.BEGIN_TO_SWEEP, (self._incarnation.id,)))
            self._sweeper.begin()

    def _look_after(self, found: Rows) -> None:
        """Watch the sweeper, and take the sweeping away from one that stands still."""
        sweeper, beat = found.text(0, 2), found.number(0, 7)
        self._neighbour = False
        if sweeper is None or beat is None:
            return
        process = read_process(found, 0, 2)
        self._watch.keep([process])
        self._neighbour = self._watch.sees_all([process])
        patience = (self._options.statement_timeout or _STATEMENT) + _SWEEPER_PATIENCE
        if self._sweeper.stands_still(sweeper, beat) > patience:
            _log.warning(
                "process %d on %s sweeps and has not moved for %g s: taking over",
                process.pid,
                process.host,
                patience,
            )
            end_sessions(self._run, UUID(sweeper), of_the_beat_alone=True)

    def _turn(self) -> float:
        """Seconds to the next look at the lock: a crowd looks as often as one."""
        pause = min(max(1, self._incarnation.crowd - 1) / _LOOKS_PER_S, _LOOK_AT_LEAST)
        if self._neighbour:
            pause = max(pause, _LOOK_AT_NEIGHBOUR)
        return pause * random.uniform(0.8, 1.2)  # noqa: S311

    def _ring(self, queue_ids: Collection[int]) -> None:
        assert self._server is not None
        if queue_ids and self._options.notify:
            self._run(self._bell.ring(queue_ids, pooled=self._server.pooled))


class _Failures:
    """How long to wait after each, and what to say of it: not the same again and again."""

    def __init__(self) -> None:
        self._pauses, self._crowded = Backoff(*_RECONNECT), Backoff(*_RECONNECT_CROWDED)
        self._said = ""
        self._again_at = 0.0

    def met(self, exc: Error, *, lost: bool) -> float:
        """Returns the pause. `lost` tells a lost session from a statement that was refused."""
        text, now = " ".join(str(exc).split()), time.monotonic()
        if text != self._said or now >= self._again_at:
            self._said, self._again_at = text, now + _SAY_AGAIN
            _log.warning("maintenance failed, trying again: %s", text)
        if not lost:
            return _RETRY * random.uniform(1.0, 1.5)  # noqa: S311
        crowded = getattr(exc, "crowded", False)
        return (self._crowded if crowded else self._pauses).next()

    def over(self) -> None:
        """The round succeeded."""
        self._pauses.reset()
        self._crowded.reset()
        self._said = ""
