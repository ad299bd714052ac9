"""Spreads, percentiles, ratios, and when a difference is claimed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_postgres.compare.report.statistics import Difference, Spread, difference, percentile, ratio

VALUES = st.lists(st.floats(0.001, 1e9), min_size=1, max_size=20)


def test_spread_is_the_median_and_the_ends() -> None:
    assert Spread.of([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0, 3)
    assert Spread.of([1.0, 2.0]).median == 1.5


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (1, 1), (50, 50), (95, 95), (99, 99), (100, 100)])
def test_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], percent) == expected


@given(VALUES, st.floats(0, 100))
def test_percentile_is_one_of_the_values_and_large_enough(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) - 1e-6


def test_ratio_is_formed_within_the_round() -> None:
    """A slow round is slow for both."""
    assert ratio([(200, 100), (20, 10), (2000, 1000)]) == Spread(2, 2, 2, 3)


def test_ratio_leaves_out_rounds_whose_base_is_nothing() -> None:
    assert ratio([(5, 0), (6, 2)]) == Spread(3, 3, 3, 1)
    assert ratio([(5, 0)]) is None
    assert ratio([]) is None


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], Difference.UNKNOWN),
        ([(1000, 1)], Difference.UNKNOWN),
        # Two rounds: the gap of 8 is wider than the ranges of 1, that of 1 is not.
        ([(20, 10), (21, 11)], Difference.HIGHER),
        ([(12, 10), (13, 11)], Difference.NONE),
        # Three rounds: ranges that do not touch.
        ([(12, 10), (13, 11), (12.5, 11.5)], Difference.HIGHER),
        ([(10, 12), (11, 13), (11.5, 12.5)], Difference.LOWER),
        ([(12, 10), (14, 13), (13, 12)], Difference.NONE),
        # Five: ahead in each, however the rounds differ; in one of them not.
        ([(2, 1), (20, 10), (200, 100), (3, 2), (30, 20)], Difference.HIGHER),
        ([(2, 1), (20, 10), (200, 100), (3, 2), (20, 30)], Difference.NONE),
        ([(1, 1)] * 5, Difference.NONE),
        ([(0, 1)] * 5, Difference.LOWER),
        ([(1, 0)] * 5, Difference.HIGHER),
    ],
)
def test_difference_is_claimed_by_the_rule(pairs: list[tuple[float, float]], expected: Difference) -> None:
    assert difference(pairs) is expected


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=9))
def test_difference_is_the_opposite_the_other_way_round(pairs: list[tuple[float, float]]) -> None:
    opposite = {Difference.HIGHER: Difference.LOWER, Difference.LOWER: Difference.HIGHER}
    found = difference(pairs)
    assert difference([(base, value) for value, base in pairs]) is opposite.get(found, found)


@pytest.mark.parametrize("rounds", [2, 3, 4, 5, 8])
def test_equals_are_seldom_told_apart(rounds: int) -> None:
    """As seldom as the rule says: once in eleven times at the most."""
    chance = random.Random(rounds)
    told = [
        difference([(chance.gauss(100, 5), chance.gauss(100, 5)) for _ in range(rounds)]) for _ in range(4000)
    ]
    assert sum(found is not Difference.NONE for found in told) / len(told) < 1 / 9
