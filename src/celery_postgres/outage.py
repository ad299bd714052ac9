"""Rides out what separates a consumer from its database: a thread that looks after one line.

It notices a loss that nobody else would (in the solo pool a task runs inside the loop, and nobody reads the
socket), connects again, has the new session reconciled, and hands it over. Celery sees nothing of it: its
loop goes on turning, tasks go on running, and acknowledgements wait.

A fault that no retry mends, such as a password that has been changed, is not ridden out but raised.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from .backoff import Backoff
from .errors import DatabaseRejected, DatabaseUnavailable, Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from .line import Line

_log = logging.getLogger(__name__)

#: How often the socket is looked at by this thread, in seconds: well within the shortest `grace`.
LOOK_EVERY = 0.5

#: Seconds between two attempts: at first, and at most.
SHORTEST, LONGEST = 0.05, 1.0
#: At most where the server has no connection left: who is connected needs it more than another attempt.
LONGEST_CROWDED = 10.0

#: The same complaint is repeated in the log after this many seconds.
_SAY_AGAIN = 30.0


class Lookout:
    """The thread of one line."""

    def __init__(
        self, line: Line, restore: Callable[[], bool], *, look: Callable[[], None], max_outage: float | None
    ) -> None:
        """`restore()` connects, reconciles and hands over; False when the line is over instead.

        `look()` is called every half second while the line is home. After `max_outage` seconds the line is
        given up; None rides out for ever.
        """
        self._line = line
        self._restore = restore
        self._look = look
        self._max_outage = max_outage
        self._stopped = threading.Event()
        self._lost = threading.Event()
        self._thread: threading.Thread | None = None
        line.on_lost = self._on_lost
        self.on_look: Callable[[], None] | None = None
        """Called in the thread, every half second while the line is home."""
        self.on_change: Callable[[], None] | None = None
        """Told, in any thread, that the line is away, home again, or over."""

    def start(self) -> None:
        """Safe to call again."""
        if self._thread is None and not self._stopped.is_set():
            self._thread = threading.Thread(target=self._work, name="celery-postgres-lookout", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Returns at once; an attempt that is under way ends by itself."""
        self._stopped.set()
        self._lost.set()

    def _on_lost(self) -> None:
        self._lost.set()
        if not self._stopped.is_set():
            self.start()
            self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def _work(self) -> None:
        while not self._stopped.is_set() and self._line.over is None:
            if self._line.away:
                self._lost.clear()
                self._ride_out()
                self._changed()
            else:
                self._look_around()
                self._lost.wait(LOOK_EVERY)

    def _look_around(self) -> None:
        try:
            self._look()
            if self.on_look is not None:
                self.on_look()
        except Exception:  # noqa: BLE001  as in `_ride_out`
            # Without this thread nobody would bring the line home.
            _log.exception("looking after the session that claims messages failed")

    def _ride_out(self) -> None:
        since = time.monotonic()
        complaints = _Complaints()
        _log.warning(
            "the session that claims messages is lost, connecting again while tasks go on: %s",
            " ".join(str(self._line.broken).split()),
        )
        pauses, crowded = Backoff(SHORTEST, LONGEST), Backoff(SHORTEST, LONGEST_CROWDED)
        while not self._stopped.is_set():
            try:
                if self._restore():
                    _log.warning("connected again after %g s", round(time.monotonic() - since, 1))
                return
            except (DatabaseUnavailable, DatabaseRejected) as exc:
                complaints.say(exc)
                pause = (crowded if getattr(exc, "crowded", False) else pauses).next()
            except Error as exc:
                _log.error("the session that claims messages cannot be had again: %s", exc)
                self._line.end(exc)
                return
            except Exception as exc:  # noqa: BLE001  whatever it is
                # Without this thread the line would stay away for ever, and the worker would look alive.
                _log.exception("the session that claims messages cannot be had again")
                self._line.end(DatabaseUnavailable(f"the line could not be taken up again: {exc!r}"))
                return
            left = None if self._max_outage is None else since + self._max_outage - time.monotonic()
            if left is not None and left <= 0:
                self._line.end(
                    DatabaseUnavailable(
                        f"the database was away for longer than max_outage ({self._max_outage:g} s): "
                        "connecting anew"
                    )
                )
                return
            self._stopped.wait(pause if left is None else min(pause, left))


class _Complaints:
    """Says why an attempt failed: once, again when the reason changes, and now and then."""

    def __init__(self) -> None:
        self._said = ""
        self._again_at = 0.0

    def say(self, exc: Error) -> None:
        text, now = " ".join(str(exc).split()), time.monotonic()
        if text != self._said or now >= self._again_at:
            self._said, self._again_at = text, now + _SAY_AGAIN
            _log.warning("the database is away, trying again: %s", text)
