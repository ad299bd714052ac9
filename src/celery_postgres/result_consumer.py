"""Celery's result consumer: who waits in this process, and what is handed to them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from celery import states
from celery.backends.asynchronous import BaseResultConsumer, _waiting_on
from celery.exceptions import SoftTimeLimitExceeded
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, ResultSet

from .errors import DatabaseRejected, DatabaseUnavailable
from .listener import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .connection import Database
    from .results import Encoded

_log = logging.getLogger(__name__)

#: Celery's `on_interval` is called about so often, in seconds.
_INTERVAL = 1.0
_COMPLAIN_EVERY = 30.0

#: Under this name a result has the buckets it goes into.
_BUCKETS = "celery_postgres_buckets"


class _Wait:
    """One call that waits: for which results, or for any; what it has heard, and what became of that."""

    def __init__(
        self, results: Sequence[AsyncResult] | None, on_message: Callable[[Any], Any] | None = None
    ) -> None:
        self.on_message = on_message
        self.woken = threading.Event()
        self.heard = False
        self.error: Exception | None = None
        self._task_ids = None if results is None else {result.id for result in results}
        self._results = None if results is None else {id(result) for result in results}
        self._passed: dict[str, Encoded] = {}

    def concerns(self, task_id: str) -> bool:
        return self._task_ids is None or task_id in self._task_ids

    def holds(self, result: AsyncResult) -> bool:
        """Whether it waits for this very object: two may wait for one task with an object each."""
        return self._results is None or id(result) in self._results

    def knows(self, task_id: str, encoded: Encoded) -> bool:
        return self._passed.get(task_id) == encoded

    def passed(self, task_id: str, encoded: Encoded) -> None:
        """It was told of a state that is not final."""
        self._passed[task_id] = encoded

    def tell(self, error: Exception | None = None) -> None:
        self.error = self.error or error
        self.heard = True
        self.woken.set()


class ResultConsumer(BaseResultConsumer):
    """Hands what the listener hears to the results that wait for it. Safe to share between threads."""

    def __init__(
        self,
        *args: Any,
        database: Database,
        decode: Callable[[Encoded], Any],
        read: Callable[[Sequence[str]], list[tuple[str, Encoded]]],
    ) -> None:
        super().__init__(*args)
        self._decode = decode
        self._read = read
        self._listener = Listener(database, self._on_result)
        # Without locks, which a child could inherit locked: each access is one step of the interpreter.
        self._waits: dict[_Wait, None] = {}
        self._passing: dict[str, Encoded] = {}
        """Of each task its last state that was not final: a poll finds the same one again and again."""
        self._unasked: set[str] = set()
        """What nobody has asked the database for yet, for the drainer of greenlets."""
        self._wanted = threading.Event()
        self._drain: _Wait | None = None
        self._next_complaint = 0.0
        self._pid = os.getpid()

    # -- what Celery calls ----------------------------------------------------------------------------

    def start(self, initial_task_id: str, **_: Any) -> None:
        self.consume_from(initial_task_id)

    def consume_from(self, task_id: str) -> None:
        """Costs nothing: who waits asks the database, not who might."""
        self.check_process()
        self._listener.begin(task_id)
        self._unasked.add(task_id)
        self._wanted.set()
        if self._drain is not None:
            self._drain.tell()

    def cancel_for(self, task_id: str) -> None:
        self._listener.end(task_id)
        self._unasked.discard(task_id)
        self._passing.pop(task_id, None)

    def stop(self) -> None:
        self._listener.close()

    def check_process(self) -> None:
        """In a forked child, begin anew."""
        if self._pid != os.getpid():
            self._after_fork()

    def on_after_fork(self) -> None:
        """In a forked child: those who wait in the parent do not wait here."""
        self._pid = os.getpid()
        self._waits = {}
        self._passing = {}
        self._unasked = set()
        self._wanted = threading.Event()
        self._drain = None
        self._listener.check_process()

    def collect_into(self, result: AsyncResult, bucket: deque[AsyncResult]) -> None:
        """Put it there when it is known. Celery's `buckets` have one place for all that wait for a task."""
        vars(result).setdefault(_BUCKETS, deque()).append(bucket)
        if result._cache is not None:  # noqa: SLF001  it became known just now
            _fill_buckets(result)

    def drain_events(self, timeout: float | None = None) -> None:
        """For the drainers of gevent and eventlet, which call this over and over in the background.

        Raises nothing: that would end the drainer, and who waits hears of it himself.
        """
        self._wanted.clear()
        if not self._listener.awaits():
            self._wanted.wait(timeout)
            return
        try:
            with (
                self._listener.waiting(lingering=True) as arrival,
                self._waiting(_Wait(None)) as wait,
            ):
                self._drain = wait
                unasked, self._unasked = self._unasked, set()
                self._listener.ask(list(unasked))
                self._listener.wait(lambda: wait.heard, wait.woken, arrival, timeout)
        except Exception:  # noqa: BLE001  also what a callback of the application raises
            if time.monotonic() >= self._next_complaint:
                self._next_complaint = time.monotonic() + _COMPLAIN_EVERY
                _log.exception("a result could not be handed over, it will be tried again")
            time.sleep(timeout or 0)
        finally:
            self._drain = None

    def _wait_for_pending(
        self,
        result: Any,
        timeout: float | None = None,
        on_interval: Callable[[], Any] | None = None,
        on_message: Callable[[Any], Any] | None = None,
        **_: Any,
    ) -> Iterator[None]:
        deadline = None if timeout is None else time.monotonic() + timeout
        self.check_process()
        leaves = list(_unready(result))
        task_ids = [leaf.id for leaf in leaves]
        for task_id in task_ids:
            if _waiting_on(self._pending_results, task_id):  # in a forked child perhaps since before the fork
                self._listener.begin(task_id)
        with (
            self._listener.waiting() as arrival,
            self._waiting(_Wait(leaves, on_message)) as wait,
        ):
            answered = self._ask(task_ids) if timeout is None or timeout > 0 else _never
            while True:
                wait.heard = False
                if wait.error is not None:
                    raise wait.error
                if result.on_ready.ready:
                    return
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    if not answered():
                        self._look(task_ids)
                    if not result.on_ready.ready and wait.error is None:
                        raise CeleryTimeoutError("The operation timed out.")
                    continue
                self._listener.wait(
                    self._progress(result, wait),
                    wait.woken,
                    arrival,
                    _INTERVAL if left is None else min(left, _INTERVAL),
                )
                if on_interval is not None:
                    on_interval()
                yield

    def _ask(self, task_ids: Sequence[str]) -> Callable[[], bool]:
        self._unasked.difference_update(task_ids)
        return self._listener.ask(task_ids)

    def _progress(self, result: Any, wait: _Wait) -> Callable[[], bool]:
        """A lone result has to be ready; a set hears of each of its members."""
        if isinstance(result, AsyncResult):
            return lambda: result.on_ready.ready or wait.error is not None
        return lambda: wait.heard

    def _look(self, task_ids: Sequence[str]) -> None:
        """Read at once what there was no time to be told: `get(timeout=0)` finds what is there."""
        if self._listener.out_of_reach:
            return
        try:
            found = self._read(task_ids)
        except DatabaseUnavailable:
            return
        except DatabaseRejected as exc:
            if exc.passing:  # a lock of the table, say: there was no time for it
                return
            raise
        for task_id, encoded in found:
            self._on_result(task_id, encoded)

    # -- what the listener calls ----------------------------------------------------------------------

    def _on_result(self, task_id: str, encoded: Encoded) -> bool:
        """Hand it to those whom it concerns; what goes wrong there is theirs, not the leading thread's.

        It stays awaited until it has been handed over, so nothing is lost where that is interrupted.
        """
        if not _waiting_on(self._pending_results, task_id):
            return False  # nobody is left, and Celery would keep it for whoever comes
        news = self._passing.get(task_id) != encoded
        waits = [
            wait for wait in list(self._waits) if wait.concerns(task_id) and not wait.knows(task_id, encoded)
        ]
        if not news and not waits:
            return False
        try:
            meta = self._decode(encoded)
        except SoftTimeLimitExceeded:
            raise
        except Exception as exc:  # noqa: BLE001
            for wait in waits:
                wait.tell(exc)
            return False
        final = meta["status"] in states.READY_STATES
        for wait in waits:
            self._tell_of(meta, wait)
            if not final:
                wait.passed(task_id, encoded)
        if final:
            self._hand_over(meta, waits)
        elif self._listener.awaits(task_id):
            self._passing[task_id] = encoded
        for wait in waits:
            wait.tell()
        return news

    def _hand_over(self, meta: Any, waits: list[_Wait]) -> None:
        """As Celery's `on_state_change`, but what a callback of one result raises is for those who hold it.

        And a result is in its buckets before anybody hears that it is ready: who waits for a group may leave
        then, and takes along what is in them.
        """
        for result in _waiting_on(self._pending_results, meta["task_id"]):
            try:
                result._set_cache(self.backend.meta_from_decoded(meta))  # noqa: SLF001
                _fill_buckets(result)
                result.on_ready(result)
            except SoftTimeLimitExceeded:
                raise
            except Exception as exc:  # noqa: BLE001  a callback's of the application
                _log.exception("what was to be done with the result of task %s failed", meta["task_id"])
                for wait in waits:
                    if wait.holds(result):
                        wait.tell(exc)

    def _tell_of(self, meta: Any, wait: _Wait) -> None:
        if wait.on_message is None:
            return
        try:
            wait.on_message(meta)
        except SoftTimeLimitExceeded:
            raise
        except Exception as exc:  # noqa: BLE001
            wait.tell(exc)

    @contextmanager
    def _waiting(self, wait: _Wait) -> Iterator[_Wait]:
        self._waits[wait] = None
        try:
            yield wait
        finally:
            self._waits.pop(wait, None)


def _unready(result: Any) -> Iterator[AsyncResult]:
    """The tasks' results in a result, however deeply nested, that are not known to be ready."""
    if isinstance(result, ResultSet):
        for member in result.results:
            yield from _unready(member)
    elif getattr(result, "_cache", None) is None:
        yield result


def _fill_buckets(result: AsyncResult) -> None:
    # Never taken away as a whole: who collects may be adding one just now, and looks again then.
    buckets = vars(result).get(_BUCKETS, ())
    while buckets:
        with suppress(IndexError):  # another thread was faster
            buckets.popleft().append(result)


def _never() -> bool:
    return False
