"""Notices an event loop that turns no longer: the process lives and beats, and works on nothing.

Such a worker would keep for ever what it has claimed. What nobody has been given yet is given back, and the
log says where the loop stands. Where the loop runs the tasks itself, as in the solo pool, a callback may take
as long as it likes.

`look` is called in another thread than the loop's, the rest in the loop's.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

#: Seconds. The loop turns every half second at least, if only for its timer.
STALLED_AFTER = 60.0


class Watchdog:
    """Watches one loop."""

    def __init__(self, on_stall: Callable[[], bool], on_turn: Callable[[], None]) -> None:
        """`on_stall()` gives back what can be given back, and says whether there was anything to do at all.

        `on_turn()` is called when the loop turns again after that.
        """
        self._on_stall = on_stall
        self._on_turn = on_turn
        self._thread = threading.get_ident()
        self._turned_at = time.monotonic()
        self._stalled = False
        self._suspected = False
        self.busy = False
        """Whether a callback runs that may take its time."""

    def turned(self) -> None:
        """The loop turns."""
        now = time.monotonic()
        if self._stalled:
            self._stalled = False
            _log.warning("the event loop turns again after %g s", round(now - self._turned_at))
            self._on_turn()
        self._turned_at = now
        self._thread = threading.get_ident()

    def look(self) -> None:
        """Whether it still does."""
        stood = time.monotonic() - self._turned_at
        if self._stalled or self.busy or stood < STALLED_AFTER:
            self._suspected = False
            return
        if not self._suspected:  # after SIGSTOP the loop has had no time to turn, either
            self._suspected = True
            return
        if not self._on_stall():
            return
        self._stalled = True
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001  there is no other way
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "unknown"
        _log.error(
            "the event loop has not turned for %g s: nothing is claimed any more, and what was not begun is "
            "given back. It stands here:\n%s",
            round(stood),
            stack,
        )
