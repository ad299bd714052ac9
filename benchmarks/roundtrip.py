"""`roundtrip`: `delay().get()`, one at a time, on a worker that has nothing else to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import peers, tables
from benchmarks.caller import Order
from benchmarks.calling import call
from benchmarks.calls import CallOptions, add_arguments, cpu_tables, given_options
from benchmarks.figure import Figure, listed
from benchmarks.measurement import Measurement, Values, interleave
from benchmarks.statistics import percentile

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.brokers import Broker
    from benchmarks.tables import Table
    from benchmarks.worker import Pool

PERCENTILES = (50, 95, 99)
COLUMNS = tuple(f"p{percent} ms" for percent in PERCENTILES)


@dataclass(frozen=True)
class Options(CallOptions):
    """`pauses_ms`: one cell for each pause between an answer and the next call."""

    pauses_ms: tuple[float, ...] = (20.0,)


@dataclass(frozen=True)
class Cell:
    """One pool and one pace."""

    pool: Pool
    pause_ms: float

    def __str__(self) -> str:
        return f"{self.pool}, pause {self.pause_ms:g} ms"


def run(brokers: Sequence[Broker], options: Options, directory: Path) -> list[Measurement]:
    """Measure every pool and every pace with every broker in every round."""
    return interleave(
        options.rounds,
        [Cell(pool, pause) for pool in options.pools for pause in options.pauses_ms],
        lambda _: brokers,
        lambda broker, cell: measure(broker, cell, options, directory),
    )


def measure(broker: Broker, cell: Cell, options: Options, directory: Path) -> tuple[Values, list[str]]:
    """Return the percentiles, and CPU ms per 1,000 round trips."""
    order = Order(options.samples, pause_ms=cell.pause_ms, limit_s=options.limit_s)
    called = call(broker, cell.pool, order, directory)
    times: Values = {f"p{percent} ms": percentile(called.took_ms, percent) for percent in PERCENTILES}
    return {**times, **called.values}, called.remarks


def _tables(measurements: Sequence[Measurement], baseline: str) -> list[Table]:
    cells = tables.cells_of(measurements)
    median = COLUMNS[0]
    return [
        *(tables.by_value(f"delay().get(), ms, {cell}", measurements, cell, COLUMNS) for cell in cells),
        tables.by_ratio(f"Median, as a ratio to {baseline}", measurements, median, baseline),
        *cpu_tables(measurements, "1,000 round trips"),
    ]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Options()
    add_arguments(parser, defaults, "calls")
    parser.add_argument(
        "--pauses-ms", type=listed(float), default=defaults.pauses_ms, help="between two calls, such as 0,20"
    )


def _options(given: argparse.Namespace) -> Options:
    return Options(pauses_ms=given.pauses_ms, **given_options(given))


FIGURE = Figure(peers.ROUNDTRIP, "delay().get() of an idle worker", _add_arguments, _options, run, _tables)
