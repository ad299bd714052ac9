"""Medians with their spread, percentiles, and ratios within one round."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Spread:
    """A median, and how far the single measurements lie around it."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up at least one value."""
        return cls(median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of the values do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]


def ratios(values: Mapping[int, float], base: Mapping[int, float]) -> Spread | None:
    """Return value / base of the rounds that have both: neighbours in time share the machine's mood."""
    paired = [values[number] / base[number] for number in sorted(values) if base.get(number)]
    return Spread.of(paired) if paired else None
