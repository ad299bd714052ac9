"""Celery's result consumer: who waits in this process, and what is handed to them."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celery import states
from celery.backends.asynchronous import BaseResultConsumer, Drainer, _waiting_on
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, ResultSet

from .listener import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .connection import Database
    from .results import Encoded

#: Celery's `on_interval` is called about so often, in seconds.
_INTERVAL = 1.0


class ResultConsumer(BaseResultConsumer):
    """Hands what the listener hears to the results that wait for it. Safe to share between threads."""

    on_message: Callable[[Any], Any] | None

    def __init__(self, *args: Any, database: Database, decode: Callable[[Encoded], Any]) -> None:
        super().__init__(*args)
        self._decode = decode
        self._listener = Listener(database, self._on_result)
        self._heard = 0
        # Without a lock, which a child could inherit locked: each access is one step of the interpreter.
        self._wakes_for: dict[threading.Event, str | None] = {}

    # -- what Celery calls ----------------------------------------------------------------------------

    def start(self, initial_task_id: str, **_: Any) -> None:
        self.consume_from(initial_task_id)

    def consume_from(self, task_id: str) -> None:
        """Costs nothing: who waits asks the database, not who might."""
        self._listener.begin(task_id)

    def cancel_for(self, task_id: str) -> None:
        self._listener.end(task_id)

    def stop(self) -> None:
        self._listener.close()

    def on_after_fork(self) -> None:
        self._wakes_for = {}
        self._listener.check_process()

    def on_wait_for_pending(self, result: Any, timeout: float | None = None, **_: Any) -> None:
        self._listener.ask([leaf.id for leaf in _unready(result)])

    def drain_events(self, timeout: float | None = None) -> None:
        """For the drainers of gevent and eventlet, which call this over and over in the background."""
        if not self._listener.awaits():
            time.sleep(timeout or 0)
            return
        before = self._heard
        with self._listener.waiting(lingering=True), self._woken_by(None) as woken:
            self._listener.wait(lambda: self._heard != before, woken, timeout)

    def _wait_for_pending(
        self,
        result: Any,
        timeout: float | None = None,
        on_interval: Callable[[], Any] | None = None,
        on_message: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> Iterator[None]:
        if type(self.drainer) is not Drainer:
            yield from super()._wait_for_pending(
                result, timeout=timeout, on_interval=on_interval, on_message=on_message, **options
            )
            return
        previous, self.on_message = self.on_message, on_message
        try:
            yield from self._until_ready(result, timeout, on_interval)
        finally:
            self.on_message = previous

    def _until_ready(
        self, result: Any, timeout: float | None, on_interval: Callable[[], Any] | None
    ) -> Iterator[None]:
        deadline = None if timeout is None else time.monotonic() + timeout
        # A lone result wakes only those who wait for it; a set wakes its waiter with each member.
        own = result.id if isinstance(result, AsyncResult) else None
        with self._listener.waiting(), self._woken_by(own) as woken:
            self.on_wait_for_pending(result)
            while not result.on_ready.ready:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise CeleryTimeoutError("The operation timed out.")
                heard = self._heard
                self._listener.wait(
                    self._progress(result, heard), woken, _INTERVAL if left is None else min(left, _INTERVAL)
                )
                if on_interval is not None:
                    on_interval()
                yield

    def _progress(self, result: Any, heard: int) -> Callable[[], bool]:
        if isinstance(result, AsyncResult):
            return lambda: result.on_ready.ready
        return lambda: self._heard != heard

    # -- what the listener calls ----------------------------------------------------------------------

    def _on_result(self, task_id: str, encoded: Encoded) -> None:
        if not self.on_message and not _waiting_on(self._pending_results, task_id):
            return  # nobody is left, and Celery would keep it for whoever comes
        meta = self._decode(encoded)
        if meta["status"] in states.READY_STATES:
            self.cancel_for(task_id)
        self.on_state_change(meta, None)
        self._heard += 1
        for event, awaited in list(self._wakes_for.items()):
            if awaited is None or awaited == task_id:
                event.set()

    @contextmanager
    def _woken_by(self, task_id: str | None) -> Iterator[threading.Event]:
        """An event that is set when this task, or any, has a new state."""
        event = threading.Event()
        self._wakes_for[event] = task_id
        try:
            yield event
        finally:
            self._wakes_for.pop(event, None)


def _unready(result: Any) -> Iterator[AsyncResult]:
    """The tasks' results in a result, however deeply nested, that are not known to be ready."""
    if isinstance(result, ResultSet):
        for member in result.results:
            yield from _unready(member)
    elif getattr(result, "_cache", None) is None:
        yield result
