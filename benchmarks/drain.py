"""`drain`: how fast a stock worker starts tasks that already wait in the queue, and at what CPU cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks import bystanders, load, peers, tables
from benchmarks.clients import MeasurementError
from benchmarks.counters import between, each
from benchmarks.crew import Crew
from benchmarks.figure import Figure
from benchmarks.load import LATE, Load, Loads
from benchmarks.measurement import Measurement, Values, interleave
from benchmarks.publisher import WARM_UP, Order
from benchmarks.publishing import publish
from benchmarks.worker import START_S, Look

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.brokers import Broker
    from benchmarks.records import Record
    from benchmarks.tables import Table

RATE = "tasks/s"
MAIN_CPU = "worker main"
CHILDREN_CPU = "worker children"
CLIENT_CPU = "client"
SERVER_PUBLISH_CPU = "server, publish"
SERVER_DRAIN_CPU = "server, drain"
CPU_SUM = "sum"
CPU_COLUMNS = (CLIENT_CPU, SERVER_PUBLISH_CPU, MAIN_CPU, CHILDREN_CPU, SERVER_DRAIN_CPU, CPU_SUM)


WAL_PUBLISH = "WAL B, publish"
WAL_DRAIN = "WAL B, drain"
DEAD_ROWS = "dead rows"
COMMANDS = "transactions"
CONNECTIONS = "connections"
SERVER_COLUMNS = (WAL_PUBLISH, WAL_DRAIN, DEAD_ROWS, COMMANDS, CONNECTIONS)


@dataclass(frozen=True)
class Options:
    """`limit_s` bounds the preloading and the draining of one measurement, each."""

    count: int = 2000
    rounds: int = 3
    loads: Loads = field(default_factory=Loads)
    limit_s: float = 30.0


def run(brokers: Sequence[Broker], options: Options, directory: Path) -> list[Measurement]:
    """Measure every load with every broker in every round."""
    return interleave(
        options.rounds,
        options.loads.cells(),
        lambda load: [broker for broker in brokers if load.pool.is_green or not broker.peer.green_only],
        lambda broker, load: measure(broker, load, options, directory),
    )


def measure(broker: Broker, load: Load, options: Options, directory: Path) -> tuple[Values, list[str]]:
    """Preload the queue, let the workers empty it, and return rate and cost per task."""
    count = load.fitting(options.count, options.limit_s)
    order = Order(count - WARM_UP, payload_bytes=load.payload, limit_s=options.limit_s)
    at_first = broker.counters()
    published = publish(broker, broker.settings(), order, 1, directory)
    waiting = published.sent + WARM_UP
    preloaded = broker.counters()
    settings = broker.settings(
        count=math.ceil(waiting / load.workers),
        prefetch_multiplier=load.prefetch,
        acks_late=load.acks == LATE,
        task_ms=load.task_ms,
    )
    remarks = [] if waiting == count else [f"only {waiting} tasks could be preloaded"]
    with Crew(settings, load.pool, directory, workers=load.workers, extra=load.extra) as crew:
        if not crew.wait(1, START_S):
            raise MeasurementError(f"no task started within {START_S:.0f} s\n{crew.log()}")
        machine_before = bystanders.look(broker.link_cpu_s())
        before, server_before = crew.look(), broker.server_cpu_s()
        done = crew.wait(waiting, options.limit_s)
        after, server_after = crew.look(), broker.server_cpu_s()
        machine_after = bystanders.look(broker.link_cpu_s())
        connections = broker.counters().connections
        starts = crew.records()
    at_last = broker.counters()
    main_s = after.main_cpu_s - before.main_cpu_s
    children_s = after.children_cpu_s - before.children_cpu_s
    server_s = between(server_before, server_after)
    others = bystanders.share(machine_before, machine_after, main_s + children_s + (server_s or 0.0))
    remarks += _remarks(broker, starts, waiting, done, crew.stopped_willingly)
    remarks += bystanders.remarks(others)
    spent: Values = {
        CLIENT_CPU: published.client_cpu_ms,
        SERVER_PUBLISH_CPU: published.server_cpu_ms,
        MAIN_CPU: _per_thousand(main_s, before, after),
        CHILDREN_CPU: _per_thousand(children_s, before, after),
        SERVER_DRAIN_CPU: None if server_s is None else _per_thousand(server_s, before, after),
    }
    values: Values = {
        RATE: _rate(starts),
        **spent,
        CPU_SUM: sum(value for value in spent.values() if value is not None),
        WAL_PUBLISH: each(between(at_first.wal_bytes, preloaded.wal_bytes), waiting),
        WAL_DRAIN: each(between(preloaded.wal_bytes, at_last.wal_bytes), waiting),
        DEAD_ROWS: each(between(at_first.dead_rows, at_last.dead_rows), waiting),
        COMMANDS: each(between(at_first.commands, at_last.commands), waiting),
        CONNECTIONS: connections,
        bystanders.SHARE: others,
    }
    return values, remarks


def _rate(starts: Sequence[Record]) -> float:
    """Starts per second from the first to the last; the worker's own start is not in it."""
    times = sorted(record.started_ns for record in starts)
    return (len(times) - 1) / ((times[-1] - times[0]) / 1e9) if len(times) > 1 else 0.0


def _per_thousand(spent_s: float, before: Look, after: Look) -> float | None:
    """CPU ms per 1,000 of the tasks that started between the two looks."""
    between = after.started - before.started
    return spent_s * 1e6 / between if between > 0 else None


def _remarks(
    broker: Broker, starts: Sequence[Record], waiting: int, done: bool, stopped_willingly: bool
) -> list[str]:
    """Whatever a reader of the rate ought to know: a limit, tasks run twice, messages left behind."""
    remarks = []
    if not done:
        remarks.append(f"{len(starts)} of {waiting} at the limit")
    if broker.peer.exact and len({record.number for record in starts}) < len(starts):
        remarks.append("tasks started twice")
    if not stopped_willingly:
        remarks.append("the worker had to be killed")
    left = broker.size()
    if done and left:
        remarks.append(f"{left} messages were not acknowledged")
    if left:
        broker.purge()
    return remarks


def _tables(measurements: Sequence[Measurement], baseline: str) -> list[Table]:
    title = "Tasks per second"
    return [
        tables.by_cell(title, measurements, RATE),
        tables.by_ratio(f"{title}, as a ratio to {baseline}", measurements, RATE, baseline),
        *tables.by_first_cell(title, measurements, RATE),
        *(
            tables.by_value(f"CPU ms per 1,000 tasks, {cell}", measurements, cell, CPU_COLUMNS)
            for cell in tables.cells_of(measurements)
        ),
        *(
            tables.by_value(f"Server, per task, and connections, {cell}", measurements, cell, SERVER_COLUMNS)
            for cell in tables.cells_of(measurements)
        ),
    ]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Options()
    parser.add_argument("--count", type=int, default=defaults.count, help="tasks per measurement")
    load.add_arguments(parser, defaults.loads)
    parser.add_argument(
        "--limit-s", type=float, default=defaults.limit_s, help="ends one preloading or draining early"
    )


def _options(given: argparse.Namespace) -> Options:
    return Options(
        count=given.count,
        rounds=given.rounds,
        loads=load.parsed(given),
        limit_s=given.limit_s,
    )


FIGURE = Figure(peers.DRAIN, "tasks per second of a stock worker", _add_arguments, _options, run, _tables)
