"""The statistics of `celery postgres compare`, for rounds that are known by their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.compare.report.statistics import Spread, percentile, ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Spread", "percentile", "ratios"]


def ratios(values: Mapping[int, float], base: Mapping[int, float]) -> Spread | None:
    """Return value / base of the rounds that have both: neighbours in time share the machine's mood."""
    return ratio((values[number], base[number]) for number in sorted(values) if number in base)
