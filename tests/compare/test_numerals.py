"""How quantities are written."""

from __future__ import annotations

import pytest

from celery_postgres.compare.report import numerals
from celery_postgres.compare.report.conclusion import conclude
from celery_postgres.compare.report.model import Contender, Measure, Report
from celery_postgres.compare.report.statistics import Spread


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"), (4, "4"), (1.4, "1.40"), (14.04, "14.0"), (0.0485, "0.0485"), (99.96, "100"),
        (1234.5, "1,234"), (61e6, "61,000,000"), (0.00012, "1.2e-04"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, expected: str) -> None:
    assert numerals.number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.06, "0.06 s"), (2.4, "2.4 s"), (9.96, "10 s"), (42.4, "42 s"), (59.9, "1 min"), (370, "6 min 10 s")],
)
def test_durations_are_in_fitting_units(value: float, expected: str) -> None:
    assert numerals.seconds(value) == expected


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        ("bytes", 999, (1, "bytes")),
        ("bytes", 3.4e6, (1e6, "MB")),
        ("bytes/task", 2100, (1e3, "kB/task")),
        ("tasks/s", 3.4e6, (1, "tasks/s")),
    ],
)
def test_bytes_are_scaled_and_nothing_else(unit: str, value: float, expected: tuple[float, str]) -> None:
    measure = Measure("x", "x", "x", unit, "less", {"ours": [value, value / 2, value]})
    report = Report([], "", {}, "", 3, "ours", [Contender("ours", "other", "", "")], [measure])
    assert numerals.scale(conclude(measure, report)) == expected


def test_a_range_is_shown_where_there_is_one() -> None:
    assert numerals.spread(Spread(2, 1, 3, 5)) == "[1-3]"
    assert numerals.spread(Spread(2e6, 1e6, 3e6, 5), 1e6) == "[1-3]"
    assert numerals.spread(Spread(2, 2, 2, 1)) == ""
