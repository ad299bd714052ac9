"""`latency`: from before `delay()` to the start of the task, on a worker that has nothing else to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import peers, tables
from benchmarks.clients import MeasurementError
from benchmarks.figure import Figure, listed
from benchmarks.measurement import Measurement, Values, interleave
from benchmarks.publisher import Order
from benchmarks.publishing import Publishers
from benchmarks.statistics import percentile
from benchmarks.worker import PREFORK, START_S, Pool, Worker

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.brokers import Broker
    from benchmarks.tables import Table

PERCENTILES = (50, 95, 99)
COLUMNS = tuple(f"p{percent} ms" for percent in PERCENTILES)

# Every child of the pool shall have run a task before the clock counts.
_WARM_UP = 20

# A message may wait for a poll; none of the peers polls more slowly than this.
_LAST_S = 10.0


@dataclass(frozen=True)
class Options:
    """`intervals_ms`: one cell for each pause between two sends."""

    samples: int = 150
    rounds: int = 3
    intervals_ms: tuple[float, ...] = (20.0,)
    pool: Pool = PREFORK
    payload: int = 0


@dataclass(frozen=True)
class Cell:
    """One pace of sending."""

    interval_ms: float

    def __str__(self) -> str:
        return f"every {self.interval_ms:g} ms"


def run(brokers: Sequence[Broker], options: Options, directory: Path) -> list[Measurement]:
    """Measure every pace with every broker in every round."""
    return interleave(
        options.rounds,
        [Cell(interval) for interval in options.intervals_ms],
        lambda _: brokers,
        lambda broker, cell: measure(broker, cell, options, directory),
    )


def measure(broker: Broker, cell: Cell, options: Options, directory: Path) -> tuple[Values, list[str]]:
    """Send at the pace of the cell and return the percentiles."""
    order = Order(
        options.samples,
        warm_up=_WARM_UP,
        interval_ms=cell.interval_ms,
        payload_bytes=options.payload,
        limit_s=options.samples * cell.interval_ms / 1000 + _LAST_S,
    )
    settings = broker.settings()
    with (
        Worker(settings, options.pool, directory) as worker,
        Publishers(settings, order, 1, directory) as publishers,
    ):
        if not worker.wait(_WARM_UP, START_S):
            raise MeasurementError(f"the warm-up did not end within {START_S:.0f} s\n{worker.log()}")
        (outcome,) = publishers.send()
        worker.wait(_WARM_UP + outcome.sent, _LAST_S)
        starts = [record for record in worker.records() if record.number >= 0]
    remarks = [] if len(starts) == options.samples else [f"{len(starts)} of {options.samples} samples"]
    delays = [(record.started_ns - record.sent_ns) / 1e6 for record in starts]
    broker.purge()
    return {f"p{percent} ms": percentile(delays, percent) for percent in PERCENTILES}, remarks


def _tables(measurements: Sequence[Measurement], _: str) -> list[Table]:
    return [
        tables.by_value(f"delay() to start, ms, {cell}", measurements, cell, COLUMNS)
        for cell in tables.cells_of(measurements)
    ]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Options()
    parser.add_argument("--samples", type=int, default=defaults.samples, help="sends per measurement")
    parser.add_argument(
        "--intervals-ms", type=listed(float), default=defaults.intervals_ms, help="pauses, such as 20,1000"
    )
    parser.add_argument("--pool", type=Pool.parse, default=defaults.pool, help="such as prefork:2")
    parser.add_argument("--payload", type=int, default=defaults.payload, help="bytes of an extra argument")


def _options(given: argparse.Namespace) -> Options:
    return Options(
        samples=given.samples,
        rounds=given.rounds,
        intervals_ms=given.intervals_ms,
        pool=given.pool,
        payload=given.payload,
    )


FIGURE = Figure(peers.LATENCY, "delay() to the start of the task", _add_arguments, _options, run, _tables)
