"""Medians, percentiles, paired ratios, shares of the machine, and sums of a profile."""

from __future__ import annotations

import os
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from benchmarks import bystanders, processes
from benchmarks.link import Link
from benchmarks.load import Load, Loads
from benchmarks.measurement import Measurement
from benchmarks.profile import top_functions
from benchmarks.statistics import Spread, percentile, ratios
from benchmarks.tables import by_first_cell, by_ratio
from benchmarks.worker import Pool


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


def test_cells_are_compared_with_the_first() -> None:
    """What a variation costs is a ratio within the peer and the round."""
    taken = [Measurement("a", cell, 1, {"rate": rate}) for cell, rate in (("off", 4.0), ("on", 3.0))]
    (table,) = by_first_cell("title", taken, "rate")
    assert (table.head, table.rows) == (["", "on"], [["a", "0.75"]])
    assert by_first_cell("title", taken[:1], "rate") == []


def test_a_load_takes_no_more_tasks_than_fit() -> None:
    """Long tasks are bounded by the time there is, large ones by memory."""
    assert Load().fitting(2000, limit_s=30) == 2000
    assert Load(task_ms=100).fitting(2000, limit_s=30) == 300
    assert Load(pool=Pool("solo"), payload=1_000_000).fitting(2000, limit_s=30) == 100
    assert len(Loads(workers=(1, 2), events=("off", "on"), pools=(Pool("solo"),)).cells()) == 4


def test_a_slow_link_delays_and_changes_nothing() -> None:
    """What goes in comes out, whatever its size; there and back takes the time that was asked for."""
    said = os.urandom(3_000_000)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Link(f"redis://127.0.0.1:{server.getsockname()[1]}/0", round_trip_ms=20) as link,
        socket.create_connection(("127.0.0.1", urlsplit(link.url).port or 0)) as near,
        server.accept()[0] as far,
    ):
        began = time.monotonic()
        near.sendall(b"?")
        assert far.recv(1) == b"?"
        far.sendall(b"!")
        assert near.recv(1) == b"!"
        assert time.monotonic() - began >= 0.02
        sender = threading.Thread(target=lambda: (near.sendall(said), near.close()))
        sender.start()
        with far.makefile("rb") as heard:
            assert heard.read() == said
        sender.join()


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
