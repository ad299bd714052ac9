"""`backlog`: whether a worker slows down with what waits behind its tasks, or with an open transaction."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from benchmarks import bystanders, filling, peers, tables
from benchmarks.clients import MeasurementError
from benchmarks.counters import between, each
from benchmarks.figure import Figure, listed, one_of
from benchmarks.filling import NO_PIN, PINS, Filling
from benchmarks.measurement import Measurement, Values, interleave
from benchmarks.publisher import Order
from benchmarks.publishing import publish
from benchmarks.worker import PREFORK, START_S, Pool, Worker

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.brokers import Broker
    from benchmarks.records import Record
    from benchmarks.tables import Table

RATE = "tasks/s"
FIRST = "first tenth"
LAST = "last tenth"
WORKER_CPU = "worker CPU"
SERVER_CPU = "server CPU"
WAL = "WAL B"
FILLED = "filled/s"
COLUMNS = (RATE, FIRST, LAST, WORKER_CPU, SERVER_CPU, WAL, FILLED)


@dataclass(frozen=True)
class Options:
    """`count` tasks are drained from a queue in which `sizes` more lie behind them."""

    count: int = 5000
    rounds: int = 3
    sizes: tuple[int, ...] = (0, 10_000, 1_000_000)
    pins: tuple[str, ...] = (NO_PIN,)
    pool: Pool = PREFORK
    limit_s: float = 60.0


@dataclass(frozen=True)
class Cell:
    """What waits, and who holds the horizon of the database."""

    size: int
    pin: str

    def __str__(self) -> str:
        pinned = "" if self.pin == NO_PIN else f", {self.pin} open"
        return f"{self.size:,} behind{pinned}"


def run(brokers: Sequence[Broker], options: Options, directory: Path) -> list[Measurement]:
    """Measure every size under every pin in every round."""
    return interleave(
        options.rounds,
        [Cell(*values) for values in product(options.sizes, options.pins)],
        lambda _: brokers,
        lambda broker, cell: measure(broker, cell, options, directory),
    )


def measure(broker: Broker, cell: Cell, options: Options, directory: Path) -> tuple[Values, list[str]]:
    """Fill the queue by SQL, drain some of it under the pin, and throw the rest away."""
    publish(broker, broker.settings(), Order(1), 1, directory)
    filled = Filling(broker.place, broker.queue)
    per_s = filled.fill(options.count + cell.size)
    pin: AbstractContextManager[object] = (
        nullcontext() if cell.pin == NO_PIN else filling.pinned(broker.place, cell.pin)
    )
    remarks = []
    with pin, Worker(broker.settings(), options.pool, directory) as worker:
        if not worker.wait(1, START_S):
            raise MeasurementError(f"no task started within {START_S:.0f} s\n{worker.log()}")
        machine_before, counted_before = bystanders.look(broker.link_cpu_s()), broker.counters()
        before, server_before = worker.look(), broker.server_cpu_s()
        done = worker.wait(options.count, options.limit_s)
        after, server_after = worker.look(), broker.server_cpu_s()
        counted_after, machine_after = broker.counters(), bystanders.look(broker.link_cpu_s())
        starts = worker.records()[: options.count]
    filled.clear()
    worker_s = after.main_cpu_s - before.main_cpu_s + after.children_cpu_s - before.children_cpu_s
    server_s = between(server_before, server_after)
    others = bystanders.share(machine_before, machine_after, worker_s + (server_s or 0.0))
    if not done:
        remarks.append(f"{len(starts)} of {options.count} at the limit")
    if len({record.number for record in starts}) < len(starts):
        remarks.append("tasks started twice")
    tasks = max(1, after.started - before.started)
    values: Values = {
        RATE: _rate(starts),
        FIRST: _rate(starts[: len(starts) // 10]),
        LAST: _rate(starts[-(len(starts) // 10) :]),
        WORKER_CPU: worker_s * 1e6 / tasks,
        SERVER_CPU: None if server_s is None else server_s * 1e6 / tasks,
        WAL: each(between(counted_before.wal_bytes, counted_after.wal_bytes), tasks),
        FILLED: per_s,
        bystanders.SHARE: others,
    }
    return values, remarks + bystanders.remarks(others)


def _rate(starts: Sequence[Record]) -> float | None:
    """Starts per second, in the order of their recording."""
    if len(starts) < 2:
        return None
    return (len(starts) - 1) / max(1e-9, (starts[-1].started_ns - starts[0].started_ns) / 1e9)


def _tables(measurements: Sequence[Measurement], _: str) -> list[Table]:
    title = "Tasks per second"
    return [
        tables.by_cell(title, measurements, RATE),
        *tables.by_first_cell(title, measurements, RATE),
        *(
            tables.by_value(
                f"Rates, CPU ms per 1,000 tasks, WAL per task, {cell}", measurements, cell, COLUMNS
            )
            for cell in tables.cells_of(measurements)
        ),
    ]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Options()
    parser.add_argument("--count", type=int, default=defaults.count, help="tasks that are drained")
    parser.add_argument(
        "--sizes", type=listed(int), default=defaults.sizes, help="messages behind them, such as 0,1000000"
    )
    parser.add_argument(
        "--pins",
        type=listed(one_of(*PINS)),
        default=defaults.pins,
        help=f"transactions that are open meanwhile: {','.join(PINS)}",
    )
    parser.add_argument("--pool", type=Pool.parse, default=defaults.pool, help="such as prefork:2")
    parser.add_argument("--limit-s", type=float, default=defaults.limit_s, help="ends one draining early")


def _options(given: argparse.Namespace) -> Options:
    return Options(
        count=given.count,
        rounds=given.rounds,
        sizes=given.sizes,
        pins=given.pins,
        pool=given.pool,
        limit_s=given.limit_s,
    )


FIGURE = Figure(peers.BACKLOG, "drain before a long queue", _add_arguments, _options, run, _tables)
