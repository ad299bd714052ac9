"""`idle`: what workers cost that have nothing to do, and how soon one of them starts a task."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import bystanders, peers, tables
from benchmarks.clients import MeasurementError
from benchmarks.counters import between
from benchmarks.crew import Brood
from benchmarks.figure import Figure, listed
from benchmarks.measurement import Measurement, Values, interleave
from benchmarks.publisher import Order
from benchmarks.publishing import Publishers
from benchmarks.statistics import percentile
from benchmarks.worker import SOLO, START_S, Pool

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.brokers import Broker
    from benchmarks.tables import Table

COMMANDS = "transactions/s"
SERVER_CPU = "server CPU %"
WORKERS_CPU = "workers CPU %"
CONNECTIONS = "connections"
COST_COLUMNS = (COMMANDS, SERVER_CPU, WORKERS_CPU, CONNECTIONS)
PERCENTILES = (50, 95, 99)
LATENCY_COLUMNS = tuple(f"p{percent} ms" for percent in PERCENTILES)

# A worker needs about a second of a processor to start.
_START_OF_EACH_S = 3.0

_WARM_UP = 10
_LAST_S = 10.0


@dataclass(frozen=True)
class Options:
    """`settle_s` after the last start nobody looks; then `seconds` are watched, and tasks are sent."""

    workers: tuple[int, ...] = (1, 20, 100)
    rounds: int = 3
    pool: Pool = SOLO
    settle_s: float = 15.0
    seconds: float = 30.0
    samples: int = 50
    interval_ms: float = 200.0


@dataclass(frozen=True)
class Cell:
    """So many workers."""

    workers: int

    def __str__(self) -> str:
        return f"{self.workers} worker{'s' if self.workers > 1 else ''}"


def run(brokers: Sequence[Broker], options: Options, directory: Path) -> list[Measurement]:
    """Measure every number of workers with every broker in every round."""
    return interleave(
        options.rounds,
        [Cell(number) for number in options.workers],
        lambda _: brokers,
        lambda broker, cell: measure(broker, cell, options, directory),
    )


def measure(broker: Broker, cell: Cell, options: Options, directory: Path) -> tuple[Values, list[str]]:
    """Let the workers stand idle, then send them a task now and then."""
    settings = broker.settings()
    order = Order(
        options.samples,
        warm_up=_WARM_UP,
        interval_ms=options.interval_ms,
        limit_s=options.samples * options.interval_ms / 1000 + _LAST_S,
    )
    with Brood(settings, options.pool, directory, workers=cell.workers) as brood:
        brood.demand_ready(START_S + cell.workers * _START_OF_EACH_S)
        values, remarks = _watched(broker, brood, options)
        with Publishers(settings, order, 1, directory) as publishers:
            if not brood.wait(_WARM_UP, START_S):
                raise MeasurementError(f"the warm-up did not end within {START_S:.0f} s\n{brood.log()}")
            (outcome,) = publishers.send()
        brood.wait(_WARM_UP + outcome.sent, _LAST_S)
        starts = [record for record in brood.records() if record.number >= 0]
    if len(starts) != options.samples:
        remarks.append(f"{len(starts)} of {options.samples} samples")
    delays = [(record.started_ns - record.sent_ns) / 1e6 for record in starts]
    values.update({f"p{percent} ms": percentile(delays, percent) for percent in PERCENTILES})
    broker.purge()
    return values, remarks


def _watched(broker: Broker, brood: Brood, options: Options) -> tuple[Values, list[str]]:
    """What the server and the workers do while nobody sends a task.

    The counts are taken at both ends of the same wait, so what a session hands in late falls in at the
    beginning as it falls out at the end.
    """
    time.sleep(options.settle_s)
    before, counted_before = brood.look(), broker.counters()
    machine_before, server_before = bystanders.look(broker.link_cpu_s()), broker.server_cpu_s()
    time.sleep(options.seconds)
    server_after, machine_after = broker.server_cpu_s(), bystanders.look(broker.link_cpu_s())
    counted_after, after = broker.counters(), brood.look()
    took_s = machine_after.at_s - machine_before.at_s
    server_s = between(server_before, server_after)
    workers_s = after.children_cpu_s - before.children_cpu_s
    others = bystanders.share(machine_before, machine_after, workers_s + (server_s or 0.0))
    commands = between(counted_before.commands, counted_after.commands)
    values: Values = {
        COMMANDS: None if commands is None else commands / took_s,
        SERVER_CPU: None if server_s is None else 100 * server_s / took_s,
        WORKERS_CPU: 100 * workers_s / took_s,
        CONNECTIONS: counted_after.connections,
        bystanders.SHARE: others,
    }
    return values, bystanders.remarks(others)


def _tables(measurements: Sequence[Measurement], _: str) -> list[Table]:
    return [
        table
        for cell in tables.cells_of(measurements)
        for table in (
            tables.by_value(f"Standing idle, {cell}", measurements, cell, COST_COLUMNS),
            tables.by_value(f"delay() to start, ms, {cell}", measurements, cell, LATENCY_COLUMNS),
        )
    ]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Options()
    parser.add_argument(
        "--workers", type=listed(int), default=defaults.workers, help="how many, such as 1,20,100"
    )
    parser.add_argument("--pool", type=Pool.parse, default=defaults.pool, help="such as solo or prefork:2")
    parser.add_argument(
        "--settle-s", type=float, default=defaults.settle_s, help="before anything is counted"
    )
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="to watch")
    parser.add_argument("--samples", type=int, default=defaults.samples, help="tasks that are sent")
    parser.add_argument(
        "--interval-ms", type=float, default=defaults.interval_ms, help="the pause between two of them"
    )


def _options(given: argparse.Namespace) -> Options:
    return Options(
        workers=given.workers,
        rounds=given.rounds,
        pool=given.pool,
        settle_s=given.settle_s,
        seconds=given.seconds,
        samples=given.samples,
        interval_ms=given.interval_ms,
    )


FIGURE = Figure(peers.IDLE, "the cost of idle workers", _add_arguments, _options, run, _tables)
