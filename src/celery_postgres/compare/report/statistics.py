"""Medians with their spread, percentiles, and when two contenders may be said to differ.

**The rule.** Contenders take turns within a round, so that they share the machine's mood, and each round
gives one value of each. A difference between two of them is claimed only if

- five rounds or more: one of them was ahead in every single round, whatever the mood was (between equals,
  that happens once in 16 times or less);
- three or four rounds: the ranges of their values do not touch either (once in 10, once in 35);
- two rounds: the gap between the ranges is wider than either range (once in 11);
- one round: never.

Everything else is "no difference", which means: none that these rounds can show. Where a comparison has many
measures, a few will differ by chance all the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: From so many rounds on, being ahead in all of them is evidence enough.
ENOUGH_ROUNDS = 5


@dataclass(frozen=True)
class Spread:
    """A median, and how far the values of the single rounds lie around it."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up at least one value."""
        return cls(median(values), min(values), max(values), len(values))


class Difference(Enum):
    """What two series of rounds allow to be said."""

    UNKNOWN = "too few rounds"
    NONE = "no difference"
    HIGHER = "higher"
    LOWER = "lower"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]


def ratio(pairs: Iterable[tuple[float, float]]) -> Spread | None:
    """Value / base of each round; rounds whose base is 0 are left out, None if no other is there."""
    ratios = [value / base for value, base in pairs if base]
    return Spread.of(ratios) if ratios else None


def difference(pairs: Sequence[tuple[float, float]]) -> Difference:
    """Whether the values are higher or lower than their bases, by the rule above; a pair for each round."""
    if len(pairs) < 2:
        return Difference.UNKNOWN
    values, bases = [value for value, _ in pairs], [base for _, base in pairs]
    if all(value > base for value, base in pairs) and _apart(bases, values):
        return Difference.HIGHER
    if all(value < base for value, base in pairs) and _apart(values, bases):
        return Difference.LOWER
    return Difference.NONE


def _apart(below: Sequence[float], above: Sequence[float]) -> bool:
    """Whether two series lie as far apart as so many rounds demand."""
    if len(below) >= ENOUGH_ROUNDS:
        return True
    gap = min(above) - max(below)
    if len(below) > 2:
        return gap > 0
    return gap > max(max(series) - min(series) for series in (below, above))
