"""Pauses between attempts that grow, and that no two processes share."""

from __future__ import annotations

import random

from .sqlstates import Reaction

#: Seconds. The server that comes back must not meet everybody in the same 100 ms.
SHORTEST, LONGEST = 0.1, 10.0
#: For what may be gone at once: those who met need only not meet again.
_SHORTEST_RETRY, _LONGEST_RETRY = 0.01, 0.5


class Backoff:
    """Each pause is drawn between the shortest and three times the last one ("decorrelated jitter").

    So processes that failed together do not come back together. Not safe to share between threads.
    """

    def __init__(self, shortest: float = SHORTEST, longest: float = LONGEST) -> None:
        self._shortest = shortest
        self._longest = longest
        self._last = shortest

    def next(self) -> float:
        """How many seconds to wait before the next attempt."""
        self._last = min(self._longest, random.uniform(self._shortest, 3 * self._last))  # noqa: S311
        return self._last

    def reset(self) -> None:
        """An attempt succeeded: the next failure is a new one."""
        self._last = self._shortest


class Patience:
    """The pause before what the server refused is tried again, by what it was refused with."""

    def __init__(self) -> None:
        self._retry = Backoff(_SHORTEST_RETRY, _LONGEST_RETRY)
        self._back_off = Backoff()

    def after(self, reaction: Reaction) -> float:
        """Seconds to wait."""
        return (self._retry if reaction is Reaction.RETRY else self._back_off).next()

    def reset(self) -> None:
        """It succeeded."""
        self._retry.reset()
        self._back_off.reset()
