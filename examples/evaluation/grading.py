"""From counts to grades of 0 to 100."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Findings per hundred words, and the grade that this many still earn.
_DENSITY = ((0.0, 100), (0.25, 95), (0.5, 90), (1.0, 80), (2.0, 65), (4.0, 45))
_DENSEST = 25


def density_grade(findings: int, words: int) -> int | None:
    """A grade for findings among words; None for a text without words."""
    if not words:
        return None
    density = 100 * findings / words
    return next((grade for limit, grade in _DENSITY if density <= limit), _DENSEST)


def share_grade(good: int, total: int) -> int | None:
    """The share of good ones in per cent; None if there were none at all."""
    return round(100 * good / total) if total else None


def mean_grade(weighted: Iterable[tuple[int, float]]) -> int | None:
    """The mean of (grade, weight) pairs; None without a pair of positive weight."""
    pairs = [(grade, weight) for grade, weight in weighted if weight > 0]
    total = sum(weight for _, weight in pairs)
    return round(sum(grade * weight for grade, weight in pairs) / total) if total else None
