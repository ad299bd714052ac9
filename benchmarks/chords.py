"""`chords`: from the call of a chord to the result of its body."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import peers, tables
from benchmarks.caller import Order
from benchmarks.calling import call
from benchmarks.calls import CallOptions, add_arguments, cpu_tables, given_options
from benchmarks.figure import Figure, listed
from benchmarks.measurement import Measurement, Values, interleave

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.brokers import Broker
    from benchmarks.tables import Table
    from benchmarks.worker import Pool

TIME = "ms"


@dataclass(frozen=True)
class Options(CallOptions):
    """`sizes`: one cell for each number of tasks in the header."""

    samples: int = 5
    limit_s: float = 60.0
    sizes: tuple[int, ...] = (10, 100, 1000)


@dataclass(frozen=True)
class Cell:
    """One pool and one size of the header."""

    pool: Pool
    size: int

    def __str__(self) -> str:
        return f"{self.pool}, header of {self.size}"


def run(brokers: Sequence[Broker], options: Options, directory: Path) -> list[Measurement]:
    """Measure every pool and every size with every broker in every round."""
    return interleave(
        options.rounds,
        [Cell(pool, size) for pool in options.pools for size in options.sizes],
        lambda _: brokers,
        lambda broker, cell: measure(broker, cell, options, directory),
    )


def measure(broker: Broker, cell: Cell, options: Options, directory: Path) -> tuple[Values, list[str]]:
    """Return the median of the chords, and CPU ms per 1,000 tasks, those of the body included."""
    order = Order(options.samples, chord_size=cell.size, limit_s=options.limit_s)
    called = call(broker, cell.pool, order, directory)
    return {TIME: median(called.took_ms), **called.values}, called.remarks


def _tables(measurements: Sequence[Measurement], baseline: str) -> list[Table]:
    title = "chord(header)(body).get(), ms"
    return [
        tables.by_cell(title, measurements, TIME),
        tables.by_ratio(f"{title}, as a ratio to {baseline}", measurements, TIME, baseline),
        *cpu_tables(measurements, "1,000 tasks"),
    ]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Options()
    add_arguments(parser, defaults, "chords")
    parser.add_argument(
        "--sizes", type=listed(int), default=defaults.sizes, help="tasks in the header, such as 10,100"
    )


def _options(given: argparse.Namespace) -> Options:
    return Options(sizes=given.sizes, **given_options(given))


FIGURE = Figure(peers.CHORDS, "a chord, to the result of its body", _add_arguments, _options, run, _tables)
