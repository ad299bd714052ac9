"""One PostgreSQL session that never waits unless asked to: batches of statements through libpq's pipeline.

A batch is a list of calls with one Sync behind it, which makes it one implicit transaction, one flush and
one round trip. `send` queues a batch and returns, `pump` takes in what has arrived, `wait` blocks. Any
number of batches may be under way; the server answers them in order. So an acknowledgement can leave
although the answer to a claim has not been read yet.

Thread-safety: every method takes the session's lock, `wait` only between its waits. So one thread may
send while another waits.

Signals: a handler may run in the middle of anything, and Celery's talk to the broker (a cold shutdown cancels
the consumers) or raise (a soft time limit). While the session is in the middle of a message, a handler that
wants to use it gets DatabaseUnavailable; an exception that comes from outside ends the session, because then
nobody knows which answers are still to come.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg import Error as DriverError
from psycopg import OperationalError, pq

from .encoding import BINARY, Rows, encode, formats_of
from .errors import DatabaseUnavailable, Error
from .sql import AT_HOME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg
    from psycopg.errors import Diagnostic
    from psycopg.pq.abc import PGresult

    from .sql import Statement

    Call = tuple[Statement, Sequence[object]]

_SYNC = pq.ExecStatus.PIPELINE_SYNC
_ROWS = pq.ExecStatus.TUPLES_OK
_DONE = pq.ExecStatus.COMMAND_OK
_SKIPPED = pq.ExecStatus.PIPELINE_ABORTED
_SLICE = 1.0
_CROWDED_SLICE = 0.005
#: Seconds for a cancel to reach the server, and for the server to answer what was cancelled.
_CANCEL_WITHIN = 2.0
_ANSWER_WITHIN = 1.0
#: The function of the server that tells that a commit no longer waits for its standby. The sentence itself is
#: translated, and its SQLSTATE is that of any warning.
_WAITS_FOR_STANDBY = "SyncRepWaitForLSN"


class Batch:
    """Calls that succeed or fail together; `results` has one entry per call when it is done."""

    __slots__ = ("awaited", "done", "error", "on_done", "plan", "results", "sent_at")

    def __init__(self, on_done: Callable[[Batch], None] | None) -> None:
        self.sent_at = time.monotonic()
        self.awaited = False
        """Whether somebody waits for it, with a limit of his own."""
        self.results: list[Rows] = []
        self.error: Exception | None = None
        self.done = False
        self.on_done = on_done
        self.plan: deque[Statement | None] = deque()
        """What each answer is to: None for a call, else the statement that nobody asked for, or prepared."""


class Session:
    """Batches over one connection. Made by `connection.open_session`."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        schema: str,
        *,
        translate: Callable[[PGresult, bool], Error],
    ) -> None:
        """`translate(result, prepared)` makes an error of a failed answer."""
        self.schema = schema
        self.broken: Exception | None = None
        self.notifications: deque[bytes] = deque()
        self.lock = threading.RLock()
        self.on_end: Callable[[], None] | None = None
        """Called when the session has ended, however it did, in whichever thread and under the lock."""
        self._connection = connection
        self._pgconn = connection.pgconn
        self._translate = translate
        self._prepare = False
        self._first: Call | None = None
        self._unconfirmed: list[str] = []
        """What the server said about a commit that its standby has not confirmed."""
        connection.add_notice_handler(partial(_note_unconfirmed, self._unconfirmed))
        self._prepared: set[Statement] = set()
        self._texts: dict[Statement, bytes] = {}
        self._under_way: deque[Batch] = deque()
        self._waiting = 0
        self._talking = False
        """Whether some caller is in the middle of a message; under the lock it can only be our own thread."""
        self._at_socket: dict[None, int] = {}
        """The thread that waits at the socket. Not a lock: one that a signal handler's exception left behind
        would stay locked, while who finds itself here just goes on."""
        self.unsent = False
        """Whether the kernel has not taken everything yet: `flush` when the socket can be written."""
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()

    # -- state ---------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The socket. Raises DatabaseUnavailable once there is none: another thread may have ended it."""
        try:
            return self._pgconn.socket
        except OperationalError as exc:
            raise DatabaseUnavailable(str(self.broken or exc)) from exc

    @property
    def busy(self) -> bool:
        """Whether an answer is outstanding."""
        return bool(self._under_way)

    def unanswered_for(self) -> float:
        """Seconds since that was sent which the server has to answer next; 0 if there is nothing.

        Or if somebody waits for it, who then knows how long it may take.
        """
        with self.lock:
            head = self._under_way[0] if self._under_way else None
            return 0.0 if head is None or head.awaited else time.monotonic() - head.sent_at

    def alive(self) -> bool:
        """Whether the session can still be used, as far as the socket tells; no round trip."""
        if self.broken is not None:  # not under the lock, which a child may have inherited locked
            return False
        with self.lock:
            if self._talking:
                return False
        try:
            # The server's farewell comes first, then the end: each pump takes one of them.
            while not self._waiting and _wait_for(self.fileno(), writing=False, timeout=0):
                self.pump()
        except DatabaseUnavailable:
            return False
        return True

    @property
    def backend_pid(self) -> int:
        return self._pgconn.backend_pid

    def prepare(self) -> None:
        """From now on every statement is prepared at its first use; not through a transaction pooler."""
        self._prepare = True

    def begin_with(self, call: Call) -> None:
        """From now on every batch begins with this; for settings that hold for a transaction alone."""
        self._first = call

    # -- sending -------------------------------------------------------------------------------------

    def send(
        self,
        calls: Sequence[Call],
        on_done: Callable[[Batch], None] | None = None,
        *,
        more: bool = False,
    ) -> Batch:
        """Queue a batch and hand it to the kernel as far as that takes it; never blocks.

        `on_done(batch)` runs inside a later `pump` or `wait`, under the session's lock and in the order of
        sending, also when the batch failed. With `more` it stays with us until the next batch, which the
        caller has at hand, so that both leave in one packet.
        Raises DatabaseUnavailable when the session is gone, DatabaseRejected for what cannot be sent.
        """
        # Before anything is sent: a value that has no form must not leave half a batch behind.
        encoded = [
            (statement, [encode(v) for v in values], formats_of(values)) for statement, values in calls
        ]
        with self._talk():
            batch = Batch(on_done)
            if not self._prepare:
                self._send_unasked(batch, AT_HOME, ())
            if self._first is not None:
                self._send_unasked(batch, *self._first)
            for statement, params, formats in encoded:
                self._send_call(batch, statement, params, formats)
            self._pgconn.pipeline_sync()
            self._under_way.append(batch)
            self.unsent = more or self._pgconn.flush() != 0
        return batch

    def _send_call(
        self, batch: Batch, statement: Statement, params: list[bytes | None], formats: list[pq.Format]
    ) -> None:
        if not self._prepare:
            batch.plan.append(None)
            self._pgconn.send_query_params(self._text(statement), params, None, formats, BINARY)
            return
        name = statement.name.encode()
        if statement not in self._prepared:
            self._pgconn.send_prepare(name, self._text(statement))
            # Known at once, so that a second batch behind this one does not prepare it again; taken
            # back if the server refuses.
            self._prepared.add(statement)
            batch.plan.append(statement)
        batch.plan.append(None)
        self._pgconn.send_query_prepared(name, params, formats, BINARY)

    def _send_unasked(self, batch: Batch, statement: Statement, values: Sequence[object]) -> None:
        """Its answer is for nobody: it stands in the plan as a preparation does."""
        batch.plan.append(statement)
        params = [encode(value) for value in values]
        self._pgconn.send_query_params(self._text(statement), params, None, formats_of(values), BINARY)

    def _text(self, statement: Statement) -> bytes:
        text = self._texts.get(statement)
        if text is None:
            text = self._texts[statement] = statement.sql(self.schema).encode()
        return text

    def flush(self) -> bool:
        """Hand over what the kernel would not take before; True when nothing is left."""
        with self._talk():
            self.unsent = self._pgconn.flush() != 0
        return not self.unsent

    # -- receiving -----------------------------------------------------------------------------------

    def pump(self) -> None:
        """Take in what has arrived and finish the batches that are complete; never blocks.

        Raises DatabaseUnavailable when the session is gone; the batches under way have failed by then.
        """
        finished: list[Batch] = []
        lost: OperationalError | None = None
        with self.lock:
            with self._talk():
                try:
                    self._pgconn.consume_input()
                    self._collect(finished)
                    while notification := self._pgconn.notifies():
                        self.notifications.append(notification.extra)
                except OperationalError as exc:
                    lost = exc
            self._finish(finished)
            if lost is not None:
                raise self._break(lost) from lost
            for batch in finished:
                if isinstance(batch.error, DatabaseUnavailable):
                    # A server that only reads, say: nothing that is sent here would fare better.
                    raise self._break(batch.error)

    def _collect(self, finished: list[Batch]) -> None:
        pgconn, under_way = self._pgconn, self._under_way
        while under_way and not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:  # between two statements
                continue
            head = under_way[0]
            status = result.status
            if status == _SYNC:
                under_way.popleft()
                if self._unconfirmed:  # said at the commit, between the last answer and the end
                    head.error = DatabaseUnavailable(
                        f"{' '.join(self._unconfirmed)} (01000): look after the standby that "
                        "synchronous_standby_names asks for"
                    )
                    self._unconfirmed.clear()
                head.done = True
                finished.append(head)
                continue
            # Behind the last answer comes what is wrong with the commit, or a farewell of the server.
            prepared = head.plan.popleft() if head.plan else None
            if status in (_ROWS, _DONE):
                if prepared is None:
                    head.results.append(Rows(result))
                continue
            if prepared is not None:
                self._prepared.discard(prepared)
            if status != _SKIPPED:
                head.error = self._translate(result, self._prepare)

    def wait(self, batch: Batch, timeout: float | None = None) -> list[Rows]:
        """Block until the batch is done and return its results; raise its error.

        After `timeout` seconds without an answer it is cancelled. What the server says to that counts; if it
        says nothing, the session is given up (DatabaseUnavailable), and the outcome is unknown.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        batch.awaited = True
        try:
            with self.waiting():
                while not batch.done:
                    self.pump()
                    if batch.done:
                        break
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        self.cut_short(batch, f"the server did not answer within {timeout:g} s")
                        break
                    self.wait_readable(left)
        finally:
            batch.awaited = False  # who was interrupted waits no more
        if batch.error is not None:
            raise batch.error
        return batch.results

    def cut_short(self, batch: Batch, reason: str) -> None:
        """Cancel what the server does; the batch is done when this returns. Blocks for three seconds at most.

        Without the cancel, a commit that waits for a standby which is gone would wait on in a session that
        nobody uses, and each further attempt would leave another one behind.
        """
        with suppress(DriverError, OSError):
            self._connection.cancel_safe(timeout=_CANCEL_WITHIN)
        deadline = time.monotonic() + _ANSWER_WITHIN
        try:
            while not batch.done and (left := deadline - time.monotonic()) > 0:
                self.wait_readable(left)
                self.pump()
        except DatabaseUnavailable:  # also in the batch
            pass
        if not batch.done:
            self.give_up(reason)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around waits: what arrives now is for this thread, and `pump_for_others` keeps its hands off."""
        with self.lock:
            self._waiting += 1
        try:
            yield
        finally:
            with self.lock:
                self._waiting -= 1

    def pump_for_others(self) -> bool:
        """Pump unless another thread waits, which would then sleep on a socket that was emptied."""
        with self.lock:
            if self._waiting:
                return False
            self.pump()
            return True

    def wait_readable(self, timeout: float | None) -> bool:
        """Block until something has arrived, at most a second; meanwhile hand over what is still unsent.

        Never longer: another thread that waits on this session may have taken what this one waits for.
        Only one waits at the socket (eventlet allows no second), the others look again every few ms.
        """
        timeout = _SLICE if timeout is None else min(timeout, _SLICE)
        me = threading.get_ident()
        try:
            if self._at_socket.setdefault(None, me) != me:
                time.sleep(min(timeout, _CROWDED_SLICE))
                return False
            if self.unsent and self.flush():
                return True  # libpq may have taken in an answer meanwhile
            return _wait_for(self.fileno(), writing=self.unsent, timeout=timeout)
        finally:
            if self._at_socket.get(None) == me:
                self._at_socket.pop(None, None)

    def run(self, *calls: Call, timeout: float | None = None) -> list[Rows]:
        """Send one batch and wait for it."""
        return self.wait(self.send(calls), timeout)

    # -- the end -------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self.broken is not None:
            raise DatabaseUnavailable(str(self.broken)) from self.broken

    @contextmanager
    def _talk(self) -> Iterator[None]:
        """Around everything that sends or takes in: nobody else, not even a signal handler of this thread."""
        with self.lock:
            self._check()
            if self._talking:
                raise DatabaseUnavailable(
                    "a signal handler interrupted the session in the middle of a message: use it when the "
                    "handler has returned"
                )
            try:
                self._talking = True
                yield
            except OperationalError as exc:
                raise self._break(exc) from exc
            except BaseException:
                self._end("the session was interrupted in the middle of a message")
                raise
            finally:
                self._talking = False

    def _finish(self, batches: Sequence[Batch]) -> None:
        """Tell whoever waits for them.

        What is interrupted here was taken in and is not known to anybody: the session ends, and the rest
        fails as if its answers had been lost.
        """
        told = 0
        try:
            for batch in batches:
                told += 1
                if batch.on_done is not None:
                    batch.on_done(batch)
        except BaseException:
            error = self.broken or self._end("the session was interrupted while its answers were read")
            for batch in batches[told:]:
                batch.error = error
                if batch.on_done is not None:
                    batch.on_done(batch)
            raise

    def _break(self, exc: Exception) -> DatabaseUnavailable:
        """Give the session up; every batch under way has failed with an unknown outcome."""
        reason = str(exc).strip() or "the connection to PostgreSQL was lost"
        return self._end(reason, getattr(exc, "sqlstate", None))

    def _end(self, reason: str, sqlstate: str | None = None) -> DatabaseUnavailable:
        self.broken = error = DatabaseUnavailable(reason, sqlstate)
        lost = list(self._under_way)
        self._under_way.clear()
        self.unsent = False
        self._connection.close()
        for batch in lost:
            batch.error, batch.done = error, True
        for batch in lost:
            if batch.on_done is not None:
                batch.on_done(batch)
        if self.on_end is not None:
            self.on_end()
        return error

    def neglected(self) -> bool:
        """Whether something has arrived that nobody waits for."""
        me = threading.get_ident()
        if self.broken is not None or self._at_socket.setdefault(None, me) != me:
            return False
        try:
            return _wait_for(self.fileno(), writing=False, timeout=0)
        except DatabaseUnavailable:  # ended by another thread just now
            return False
        finally:
            self._at_socket.pop(None, None)

    def give_up(self, reason: str) -> None:
        """As if the session was lost, for a reason that the server does not know."""
        with self.lock:
            if self.broken is None:
                self._end(reason)

    def close(self) -> None:
        """End the session; never raises, also on one that is gone."""
        if self.broken is not None:  # not under the lock, which a child may have inherited locked
            return
        with self.lock:
            if self.broken is None:
                self._end("the session was closed")

    def abandon(self) -> None:
        """Forget a session that was inherited through fork: not a byte may go to the parent's server."""
        self.broken = DatabaseUnavailable("the session belongs to the parent process")
        self._under_way.clear()


def _note_unconfirmed(unconfirmed: list[str], notice: Diagnostic) -> None:
    if notice.source_function == _WAITS_FOR_STANDBY:
        unconfirmed.append(f"{notice.message_primary}: {notice.message_detail}")


def _wait_for(descriptor: int, *, writing: bool, timeout: float) -> bool:
    # poll and not select: a descriptor above 1023 is ordinary in a worker. gevent and eventlet replace
    # one of the two, and remove the other if they cannot make it yield.
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(descriptor, select.POLLIN | (select.POLLOUT if writing else 0))
        return bool(poller.poll(max(0.0, timeout * 1000)))
    readable, writable, _ = select.select([descriptor], [descriptor] if writing else [], [], timeout)
    return bool(readable or writable)
