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
from functools import partial
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
#: Seconds beyond the server's own limit of a statement after which a session that owes an answer is given up:
#: a proxy or a tunnel may go on for a server that it has lost.
SILENCE = 5.0
#: That limit where there is none.
_LONGEST = 30.0


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
        self._silence = (database.options.statement_timeout or _LONGEST) + SILENCE
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._crowd = Crowd()
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._told = False
        self._awaited: dict[str, int] = {}
        """By task how many reads had been sent when it began: what those say is not for who waits now."""
        self._held: set[int] = set()
        self._waiting = 0
        # Reads are numbered in the order of sending, which is that of their answers.
        self._reads = 0
        self._answered = 0
        self._taking_in = False
        """Whether something may have arrived that has not been given to those who wait."""
        self._inbox: deque[tuple[int, str, Encoded]] = deque()
        self._failure: tuple[int, Error] | None = None
        """The last read that was refused, if none was answered since."""
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
        self._awaited.setdefault(task_id, self._reads)

    def end(self, task_id: str) -> None:
        self._awaited.pop(task_id, None)

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

        Returns what tells whether it has been answered, and all that has arrived was handed over.
        """
        self.check_process()
        with self._lock:
            session = self._session
            if session is None:  # whoever opens it reads all that is awaited
                return lambda: False
            try:
                self._subscribe(session, task_ids)
                last = self._read(session, task_ids)
            except DatabaseUnavailable:  # found out by whoever leads
                return lambda: False
        return lambda: self._answered >= last and not self._taking_in and not self._inbox

    @contextmanager
    def waiting(self, *, lingering: bool = False) -> Iterator[int]:
        """Around `ask` and every `wait` for it: as long as anybody is inside, we go on to be told.

        Yields the moment of the arrival, for `wait`. `lingering` is for who comes back at once: then that
        holds while anything is awaited.
        """
        self.check_process()
        with self._lock:
            self._waiting += 1
            arrival = self._reads
        try:
            yield arrival
        except BaseException:
            lingering = False
            raise
        finally:
            with self._lock:
                self._waiting -= 1
                if not self._waiting and not (lingering and self._awaited):
                    self._let_go()

    def wait(
        self, done: Callable[[], bool], woken: threading.Event, arrival: int, timeout: float | None = None
    ) -> bool:
        """Block until `done()`; False when that took longer than `timeout` seconds.

        `on_result` sets `woken` of those whom it concerns. A lost session is opened again, for as long as it
        takes; ConfigurationError and DatabaseRejected are raised, unless the answer is to a read that was
        sent before the `arrival`: what it was refused for may be cured since.
        """
        self._crowd.wait(
            lambda: done() or self._failure_since(arrival) is not None,
            woken,
            take_in=self._take_in,
            pause=self._sleep,
            timeout=timeout,
        )
        failure = self._failure_since(arrival)
        if failure is not None and not done():
            raise failure
        return done()

    def _failure_since(self, arrival: int) -> Error | None:
        failure = self._failure
        return failure[1] if failure is not None and failure[0] > arrival else None

    def close(self) -> None:
        """End the session; the next who waits opens another."""
        if self._pid == os.getpid() and self._session is not None:
            self._session.close()

    # -- in the leading thread ------------------------------------------------------------------------

    def _take_in(self) -> None:
        self._taking_in = True
        try:
            self._receive()
            while self._inbox:
                found = self._inbox.popleft()
                try:
                    self._hand_over(*found)
                except BaseException:
                    self._inbox.appendleft(found)  # for whoever leads next
                    raise
        finally:
            self._taking_in = False

    def _receive(self) -> None:
        try:
            session = self._open()
            if session is not None:
                self._poll(session)
                session.pump()
                if session.unanswered_for() > self._silence:
                    session.give_up(f"the server has not answered for {self._silence:g} s")
                self._hear(session)
        except DatabaseUnavailable as exc:
            self._lost(exc)

    def _hand_over(self, read: int, task_id: str, encoded: Encoded) -> None:
        if read > self._awaited.get(task_id, read) and self._on_result(task_id, encoded):
            self._pause = _QUICKEST_POLL

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
        awaited = list(self._awaited)
        with self._lock:
            self._subscribe(session, awaited)
            self._read(session, awaited)

    def _hear(self, session: Session) -> None:
        unread = []
        while session.notifications:
            told = read_payload(session.notifications.popleft())
            if told is None or told[0] not in self._awaited:
                continue
            task_id, text = told
            if not text:
                unread.append(task_id)
            else:
                # One that comes before the first answer may be old, and that answer will tell what it told.
                self._inbox.append((self._answered, task_id, Encoded(JSON, "utf-8", text)))
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

    def _read(self, session: Session, task_ids: Sequence[str]) -> int:
        """Returns the number of the last read that it takes."""
        with self._lock:
            for start in range(0, len(task_ids), _READ_AT_ONCE):
                self._reads += 1
                session.send(
                    [(sql.READ, (list(task_ids[start : start + _READ_AT_ONCE]),))],
                    partial(self._on_answer, self._reads),
                )
            return self._reads

    def _on_answer(self, read: int, batch: Batch) -> None:
        if batch.error is None:
            self._answered, self._failure = read, None
            self._inbox.extend((read, *found) for found in read_found(batch.results[0]))
        elif isinstance(batch.error, DatabaseRejected) and batch.error.passing:
            return  # the poll goes on
        elif isinstance(batch.error, Error) and not isinstance(batch.error, DatabaseUnavailable):
            self._failure = read, batch.error

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
