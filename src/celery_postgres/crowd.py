"""Many threads that wait for one socket: one of them looks after it, for all."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: A thread that waits for another one looks by itself again after this.
_SLICE = 1.0


class Crowd:
    """Who comes first leads: takes in what arrives and wakes those whom it concerns. Who leaves hands over.

    So a lone thread waits at the socket itself, without another thread in between, and of a thousand only
    those wake up whose answer is there. Safe between threads, and between greenlets where these replace them.
    """

    def __init__(self) -> None:
        # Reentrant, because a signal handler may wait in the middle of anything.
        self._lock = threading.RLock()
        self._leader = 0
        self._leading: set[threading.Event] = set()
        self._parked: dict[threading.Event, None] = {}

    def wait(
        self,
        done: Callable[[], bool],
        woken: threading.Event,
        *,
        take_in: Callable[[], None],
        pause: Callable[[float | None], object],
        timeout: float | None = None,
    ) -> bool:
        """Block until `done()`; False when that took longer than `timeout` seconds.

        `take_in()` reads what has arrived and never blocks; `pause(seconds)` blocks until there may be more.
        Both are called in the leading thread only, and what they raise is raised here. `woken` is this
        thread's: set it when `done()` may have become true.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not done():
                left = _left(deadline)
                if left is not None and left <= 0:
                    return False
                if self._enter(woken):
                    return self._lead(done, take_in, pause, deadline)
                woken.wait(_SLICE if left is None else min(left, _SLICE))
                woken.clear()
            return True
        finally:
            self._depart(woken)

    def _lead(
        self,
        done: Callable[[], bool],
        take_in: Callable[[], None],
        pause: Callable[[float | None], object],
        deadline: float | None,
    ) -> bool:
        while True:
            take_in()
            if done():
                return True
            left = _left(deadline)
            if left is not None and left <= 0:
                return False
            pause(left)

    def _enter(self, woken: threading.Event) -> bool:
        """Lead, unless another thread does. What a callback of the leader waits for, the leader waits for."""
        me = threading.get_ident()
        with self._lock:
            if self._leading and self._leader != me:
                self._parked[woken] = None
                return False
            self._leader = me
            self._leading.add(woken)
            self._parked.pop(woken, None)
            return True

    def _depart(self, woken: threading.Event) -> None:
        """Also for one whom an exception took away in the middle of `_enter`."""
        with self._lock:
            self._parked.pop(woken, None)
            self._leading.discard(woken)
            successor = next(iter(self._parked), None) if not self._leading else None
        if successor is not None:
            successor.set()


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()
