"""From quantities to places on the paper, and which of them are worth a tick."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_STEPS = (1, 2, 2.5, 5, 10)
#: Which figures of a decade are ticks, from few to many.
_DECADES = ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7), tuple(range(1, 10)))


@dataclass(frozen=True)
class Scale:
    """A straight scale from `low` at `start` to `high` at `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value lies."""
        return self.start + self._share(value) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values on it, `about` so many."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(step * power for step in _STEPS if step * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]

    def _share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class LogScale(Scale):
    """A logarithmic one: equal ratios are equal lengths. `low` is above 0."""

    def ticks(self, about: int = 5) -> list[float]:
        """Round values on it: the fewest figures of each decade that make `about` so many."""
        found: list[float] = []
        for figures in _DECADES:
            found = [
                tick for tick in self._of(figures) if self.low <= tick * 1.001 and tick <= self.high * 1.001
            ]
            if len(found) >= about - 1:
                return found
        return found if len(found) > 1 else super().ticks(about)

    def _of(self, figures: Sequence[int]) -> Iterator[float]:
        for power in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1):
            yield from (figure * 10.0**power for figure in figures)

    def _share(self, value: float) -> float:
        return math.log(value / self.low) / math.log(self.high / self.low)


@dataclass(frozen=True)
class TailScale(Scale):
    """For shares below 1: as far from 0.9 to 0.99 as from 0 to 0.9, so that the tail can be seen."""

    def _share(self, value: float) -> float:
        return (self._nines(value) - self._nines(self.low)) / (self._nines(self.high) - self._nines(self.low))

    @staticmethod
    def _nines(share: float) -> float:
        return -math.log10(1 - share)
