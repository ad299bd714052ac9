"""Opens a session anew for whoever must not wait: in a thread, with pauses after attempts that failed.

The worker's loop publishes events and answers to commands. It may wait for a moment, as long as a connection
takes where nothing is wrong, and not for as long as one takes that fails.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from .backoff import Backoff
from .errors import DatabaseUnavailable, Error

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: How long a caller waits for a new session, in seconds.
PATIENCE = 0.5


class Reopening(Generic[T]):
    """One session to be opened, again and again if need be. Safe to share between threads."""

    def __init__(self, open_: Callable[[], T], drop: Callable[[T], None]) -> None:
        """`drop(session)` gets one that came when nobody wanted it any more."""
        self._open = open_
        self._drop = drop
        self._lock = threading.Lock()
        self._backoff = Backoff(0.05, 1.0)
        self._attempt: _Attempt[T] | None = None
        self._not_before = 0.0

    def get(self) -> T:
        """The new session, to be asked for once it is needed.

        Raises what the last attempt raised, or DatabaseUnavailable while one takes long.
        """
        with self._lock:
            attempt = self._attempt
            if attempt is None or (attempt.error is not None and time.monotonic() >= self._not_before):
                attempt = self._attempt = _Attempt(self._open, self._drop)
            opened = attempt.wait()
            if attempt.error is not None:
                if not attempt.told:
                    attempt.told = True
                    self._not_before = time.monotonic() + self._backoff.next()
                raise attempt.error.with_traceback(None)
            if opened is None:
                raise DatabaseUnavailable("the session is lost, and a new one has not been opened yet")
            self._attempt = None
            self._backoff.reset()
            return opened

    def abandon(self) -> None:
        """Nobody will ask any more."""
        with self._lock:
            if self._attempt is not None:
                self._attempt.abandon()
                self._attempt = None


class _Attempt(Generic[T]):
    def __init__(self, open_: Callable[[], T], drop: Callable[[T], None]) -> None:
        self.error: Error | None = None
        self.told = False
        self._open = open_
        self._drop = drop
        self._opened: T | None = None
        self._abandoned = False
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._until = time.monotonic() + PATIENCE
        threading.Thread(target=self._work, name="celery-postgres-reopening", daemon=True).start()

    def _work(self) -> None:
        try:
            opened = self._open()
        except Error as exc:
            self.error = exc
        except Exception as exc:  # noqa: BLE001  whatever it is: who waits for this attempt has to hear of it
            _log.exception("a session could not be opened")
            self.error = DatabaseUnavailable(f"the session is lost, and another cannot be opened: {exc!r}")
        else:
            with self._lock:
                if not self._abandoned:
                    self._opened = opened
                else:
                    self._drop(opened)
        finally:
            self._done.set()

    def wait(self) -> T | None:
        """What was opened; None where that takes longer. Nobody waits twice for the same attempt."""
        self._done.wait(max(0.0, self._until - time.monotonic()))
        return self._opened

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            if self._opened is not None:
                self._drop(self._opened)
