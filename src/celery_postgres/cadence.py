"""When to look without having been woken."""

from __future__ import annotations

import math
import random
import time

#: After a consumer went idle: publishers test for idle consumers at most every 10 ms, so one that had just
#: tested did not see it. These looks find what came in between, also after a slow commit.
AFTER_IDLE = (0.02, 0.15)

#: So long after the last bell a consumer that has nothing in hand goes into its slot. Longer than between the
#: bells of a caller who waits for one result after the other, or each of them would cost a claim more.
SETTLE_AFTER = 0.03
#: So much later it tries again, if it was at work then.
SETTLE_AGAIN = 0.2


class Cadence:
    """The times of the poll. All in seconds of the monotonic clock."""

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest = shortest
        self._longest = longest
        self._interval = shortest
        self._soon: list[float] = []
        self._settle_at = math.inf
        self.next_at = 0.0

    def seconds_left(self) -> float:
        return max(0.0, min(self.next_at, self._settle_at) - time.monotonic())

    def due(self) -> bool:
        return time.monotonic() >= self.next_at

    def look_at(self, moment: float) -> None:
        """Look at this moment at the latest."""
        self.next_at = min(self.next_at, moment)

    def settle_after(self, seconds: float = SETTLE_AFTER) -> bool:
        """Begin to wait for quiet, or begin again; returns whether `seconds_left` is less now."""
        first = self._settle_at == math.inf
        self._settle_at = time.monotonic() + seconds
        return first

    @property
    def waits_for_quiet(self) -> bool:
        return self._settle_at < math.inf

    def quiet(self) -> bool:
        """Whether the wait for it is over; only once."""
        quiet = time.monotonic() >= self._settle_at
        if quiet:
            self._settle_at = math.inf
        return quiet

    def went_idle(self) -> None:
        self._soon = list(AFTER_IDLE)
        self.next_at = time.monotonic() + self._soon.pop(0)

    def looked(self, *, trusting: bool) -> None:
        """`trusting`: bells are heard, so the pauses may grow; else they stay at the shortest."""
        if self._soon:
            self.next_at = time.monotonic() + self._soon.pop(0)
            return
        self._interval = min(self._interval * 1.5, self._longest) if trusting else self._shortest
        # Spread over a quarter, so that workers which started together do not poll together.
        self.next_at = time.monotonic() + self._interval * random.uniform(0.75, 1.0)  # noqa: S311
