"""Medians, percentiles, paired ratios, shares of the machine, and sums of a profile."""

from __future__ import annotations

import os

import pytest

from benchmarks import bystanders, processes
from benchmarks.measurement import Measurement
from benchmarks.profile import top_functions
from benchmarks.statistics import Spread, percentile, ratios
from benchmarks.tables import by_ratio


def test_a_spread_shows_the_median_and_both_ends() -> None:
    """The median is not moved by one slow round; the ends tell of it."""
    assert Spread.of([3.0, 100.0, 1.0]) == Spread(median=3.0, low=1.0, high=100.0, rounds=3)


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (95, 95), (99, 99), (100, 100)])
def test_percentiles_are_values_that_occurred(percent: float, expected: float) -> None:
    """The nearest rank is taken; nothing is interpolated."""
    assert percentile(range(1, 101), percent) == expected


def test_ratios_are_formed_within_a_round() -> None:
    """A round that only one of the two has does not count."""
    assert ratios({1: 10.0, 2: 40.0, 3: 5.0}, {1: 5.0, 2: 10.0}) == Spread(3.0, 2.0, 4.0, 2)
    assert ratios({1: 10.0}, {2: 5.0}) is None


def test_a_failed_measurement_leaves_its_cell_empty() -> None:
    """A peer without values is shown, not dropped."""
    taken = [Measurement("a", "solo", 1, {"rate": 2.0}), Measurement("b", "solo", 1, {}, ["failed"])]
    assert by_ratio("title", taken, "rate", "a").rows == [["a", "1"], ["b", "-"]]


def test_cpu_of_a_tree_holds_that_of_its_root() -> None:
    """The clock of another process is read without any right over it."""
    assert 0 < processes.cpu_s(os.getpid()) <= processes.tree_cpu_s(os.getpid())
    assert processes.parent_of(os.getpid()) == os.getppid()


def test_the_work_of_others_is_what_nobody_of_ours_explains() -> None:
    """Observer and measured processes are taken off; more than a tenth of the machine is remarked on."""
    before = bystanders.MachineLook(at_s=0.0, busy_s=0.0, observer_s=0.0)
    after = bystanders.MachineLook(at_s=1.0, busy_s=0.9, observer_s=0.1)
    others = bystanders.share(before, after, own_s=0.4)
    assert others == pytest.approx(40 / len(os.sched_getaffinity(0)))
    assert bystanders.remarks(9.9) == []
    assert bystanders.remarks(42.0) == ["others used 42 % of the processors"]


def test_a_profile_adds_up_the_lines_of_a_function() -> None:
    """Samples at different lines of one function are one row."""
    table = top_functions("main (a.py:1);work (a.py:5) 3\nmain (a.py:1);work (a.py:6) 1\n")
    assert table.rows == [["work (a.py)", "100.0", "100.0"]]
