"""Whether acknowledgements wait a moment for others, so that one batch carries them all.

Otherwise each one of a fast task would travel alone, with a claim for one message.
"""

from __future__ import annotations

import time

#: How long they wait at most while there is a backlog and enough to do, in seconds, and how many have to
#: come in that time to be worth it: what is in hand may be running, and then somebody waits for the claim.
GATHER_DELAY = 0.005
_GATHERED_AT_LEAST = 5
#: The pace is that of so many seconds: tasks that began together end together, and that is no pace.
_PACE_OVER = 0.05


class Gathering:
    """The pace of one consumer, and since when it waits. Not safe between threads."""

    def __init__(self) -> None:
        self._waiting_since = 0.0
        self._settled = 0
        self._settled_since = 0.0
        self._settled_per_s = 0.0

    @property
    def worth_it(self) -> bool:
        """Whether enough are to be expected, going by the last moment."""
        return self._settled_per_s * GATHER_DELAY >= _GATHERED_AT_LEAST

    def may_go_on(self) -> bool:
        """Whether there is time left; the first call begins it."""
        now = time.monotonic()
        if not self._waiting_since:
            self._waiting_since = now
        return now - self._waiting_since < GATHER_DELAY

    def ended(self, settled: int) -> None:
        """A batch with so many leaves now."""
        self._waiting_since = 0.0
        self._settled += settled
        elapsed = time.monotonic() - self._settled_since
        if elapsed >= _PACE_OVER:
            self._settled_per_s = self._settled / elapsed
            self._settled_since += elapsed
            self._settled = 0
