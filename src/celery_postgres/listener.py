"""How a process waits for results: it is told of them, and reads them itself where nobody tells.

Whoever waits first takes the locks of the results' buckets, by which those who store results see that
somebody waits, and then reads what is there already; so no result is missed in between. A slow poll
underneath finds what a lost notification, a lost session or a pooler has kept from us.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .crowd import Crowd
from .direct import for_sessions
from .encoding import encode
from .errors import DatabaseRejected, DatabaseUnavailable, Error
from .results import Encoded, read_found
from .sql import results as sql
from .wakeup import JSON, ResultBell, read_payload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from .connection import Database
    from .wire import Batch, Session

_log = logging.getLogger(__name__)

_READ_AT_ONCE = 1000
#: Where nobody can notify us, behind a pooler say, the poll begins quick and slows down.
_QUICKEST_POLL = 0.02
_SLOWER = 1.5
#: Attempts to connect are so far apart at least.
_RECONNECT_EVERY = 0.5
_COMPLAIN_EVERY = 30.0


class Listener:
    """The results that this process waits for, over one session, opened by the first who waits.

    Safe to share between threads; a forked child begins anew. `on_result(task_id, encoded)` is called in one
    of the waiting threads for each state of what is awaited, sometimes twice for the same, and returns
    whether it was news to anybody.
    """

    def __init__(self, database: Database, on_result: Callable[[str, Encoded], bool]) -> None:
        self._database = for_sessions(database)
        self._options = database.options
        self._bell = ResultBell(database.options.schema)
        self._on_result = on_result
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._crowd = Crowd()
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._told = False
        self._awaited: set[str] = set()
        self._held: set[int] = set()
        self._waiting = 0
        self._inbox: deque[tuple[str, Encoded]] = deque()
        self._failure: Error | None = None
        self._next_try = 0.0
        self._connecting = False
        self._next_complaint = 0.0
        self._pause = _QUICKEST_POLL
        self._next_poll = 0.0

    # -- what is awaited: never blocks, for a destructor may call it in the middle of anything --------

    def begin(self, task_id: str) -> None:
        """Raises DatabaseRejected for an id that cannot be: asked for with others, it would spoil theirs."""
        self.check_process()
        encode(task_id)
        self._awaited.add(task_id)

    def end(self, task_id: str) -> None:
        self._awaited.discard(task_id)

    def awaits(self, task_id: str | None = None) -> bool:
        """Whether this task is awaited; without an id, whether any is."""
        return bool(self._awaited) if task_id is None else task_id in self._awaited

    @property
    def out_of_reach(self) -> bool:
        """Whether an attempt to connect has just failed, or is taking long."""
        if self._session is not None:
            return False
        slow = time.monotonic() >= self._next_try
        return slow if self._connecting else not slow

    def check_process(self) -> None:
        """In a forked child: forget the parent's session, locks and wishes."""
        if self._pid != os.getpid():
            self._reset()

    # -- waiting --------------------------------------------------------------------------------------

    def ask(self, task_ids: Sequence[str]) -> Callable[[], bool]:
        """Have these read, and be told of them from now on; never blocks, what is found comes in `wait`.

        Returns what tells whether it has been answered.
        """
        self.check_process()
        with self._lock:
            session = self._session
            if session is None:  # whoever opens it reads all that is awaited
                return lambda: False
            try:
                self._subscribe(session, task_ids)
                asked = self._read(session, task_ids)
            except DatabaseUnavailable:  # found out by whoever leads
                return lambda: False
        return lambda: all(batch.done and batch.error is None for batch in asked)

    @contextmanager
    def waiting(self, *, lingering: bool = False) -> Iterator[None]:
        """Around `ask` and every `wait` for it: as long as anybody is inside, we go on to be told.

        `lingering` is for who comes back at once: then that holds while anything is awaited.
        """
        self.check_process()
        with self._lock:
            if not self._waiting:
                self._failure = None
            self._waiting += 1
        try:
            yield
        except BaseException:
            lingering = False
            raise
        finally:
            with self._lock:
                self._waiting -= 1
                if not self._waiting and not (lingering and self._awaited):
                    self._let_go()

    def wait(self, done: Callable[[], bool], woken: threading.Event, timeout: float | None = None) -> bool:
        """Block until `done()`; False when that took longer than `timeout` seconds.

        `on_result` sets `woken` of those whom it concerns. A lost session is opened again, for as long as it
        takes; ConfigurationError and DatabaseRejected are raised.
        """
        self._crowd.wait(
            lambda: done() or self._failure is not None,
            woken,
            take_in=self._take_in,
            pause=self._sleep,
            timeout=timeout,
        )
        if self._failure is not None and not done():
            raise self._failure
        return done()

    def close(self) -> None:
        """End the session; the next who waits opens another."""
        if self._pid == os.getpid() and self._session is not None:
            self._session.close()

    # -- in the leading thread ------------------------------------------------------------------------

    def _take_in(self) -> None:
        try:
            session = self._open()
            if session is not None:
                self._poll(session)
                session.pump()
                self._hear(session)
        except DatabaseUnavailable as exc:
            self._lost(exc)
        while self._inbox:
            try:
                if self._on_result(*self._inbox.popleft()):
                    self._pause = _QUICKEST_POLL
            except BaseException:  # it is still awaited: whoever leads next reads it again
                self._next_poll = 0.0
                raise

    def _sleep(self, left: float | None) -> None:
        until = self._next_poll if self._session is not None else self._next_try
        pause = max(0.0, until - time.monotonic())
        pause = pause if left is None else min(pause, left)
        if self._session is None:
            time.sleep(pause)
            return
        try:
            self._session.wait_readable(pause)
        except DatabaseUnavailable as exc:
            self._lost(exc)

    def _open(self) -> Session | None:
        if self._session is not None or time.monotonic() < self._next_try:
            return self._session
        self._next_try = time.monotonic() + _RECONNECT_EVERY
        self._connecting = True
        try:  # not under the lock: who joins meanwhile waits no longer than he wants to
            session, server = self._database.open_set_up()
        finally:
            self._connecting = False
        with self._lock:
            self._told = self._options.notify and not server.pooled
            self._held.clear()
            self._session = session
            self._next_poll = 0.0
            self._next_complaint = 0.0
        return session

    def _lost(self, exc: DatabaseUnavailable) -> None:
        now = time.monotonic()
        with self._lock:
            if self._session is None:
                self._next_try = now + _RECONNECT_EVERY
            else:
                self._session.close()
            self._session = None
            self._held.clear()
        if now >= self._next_complaint:
            self._next_complaint = now + _COMPLAIN_EVERY
            _log.warning("waiting for results without a connection, trying again: %s", exc)

    def _poll(self, session: Session) -> None:
        """Read everything that is awaited, if that is due: every hint may have been lost."""
        now = time.monotonic()
        if now < self._next_poll:
            return
        if self._told:
            pause = self._options.max_poll_interval
        else:
            self._pause = pause = min(self._pause * _SLOWER, self._options.poll_interval)
        self._next_poll = now + pause
        awaited = self._awaited.copy()
        with self._lock:
            self._subscribe(session, awaited)
            self._read(session, list(awaited))

    def _hear(self, session: Session) -> None:
        unread = []
        while session.notifications:
            told = read_payload(session.notifications.popleft())
            if told is None or told[0] not in self._awaited:
                continue
            task_id, text = told
            if text:
                self._inbox.append((task_id, Encoded(JSON, "utf-8", text)))
            else:
                unread.append(task_id)
        if unread:
            self._read(session, unread)

    # -- what is sent, from any thread ----------------------------------------------------------------

    def _subscribe(self, session: Session, task_ids: Collection[str]) -> None:
        """Under our lock, so that nobody reads before a subscription that he takes for granted is sent.

        It leaves with the read that follows.
        """
        if not self._told:
            return
        new = {self._bell.bucket(task_id) for task_id in task_ids} - self._held
        if new:
            self._held |= new
            session.send(
                self._bell.begin(new), lambda batch: self._subscribed(session, new, batch), more=True
            )

    def _subscribed(self, session: Session, buckets: set[int], batch: Batch) -> None:
        if batch.error is None:
            return
        self._held -= buckets  # the poll goes on, and with it the next try
        if not isinstance(batch.error, DatabaseUnavailable):
            # Locks of a session outlive the transaction that took them: a time limit that strikes between two
            # of them leaves the first, and whoever stores a result would go on telling us.
            session.send(self._bell.end(buckets))

    def _read(self, session: Session, task_ids: Sequence[str]) -> list[Batch]:
        return [
            session.send([(sql.READ, (list(task_ids[start : start + _READ_AT_ONCE]),))], self._answered)
            for start in range(0, len(task_ids), _READ_AT_ONCE)
        ]

    def _answered(self, batch: Batch) -> None:
        if batch.error is None:
            self._inbox.extend(read_found(batch.results[0]))
        elif isinstance(batch.error, DatabaseRejected) and batch.error.passing:
            return  # the poll goes on
        elif isinstance(batch.error, Error) and not isinstance(batch.error, DatabaseUnavailable):
            self._failure = batch.error

    def _let_go(self) -> None:
        """Nobody waits: who stores need not tell us, and we could not hear it either."""
        held, self._held = self._held, set()
        session = self._session
        if not held or session is None:
            return
        try:
            session.send(self._bell.end(held))
        except DatabaseUnavailable:
            return
