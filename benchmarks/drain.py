"""`drain`: how fast a stock worker starts tasks that already wait in the queue, and at what CPU cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import bystanders, peers, tables
from benchmarks.clients import MeasurementError
from benchmarks.figure import Figure, listed
from benchmarks.measurement import Measurement, Values, interleave
from benchmarks.publisher import WARM_UP, Order
from benchmarks.publishing import publish
from benchmarks.worker import PREFORK, START_S, Look, Pool, Worker

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


@dataclass(frozen=True)
class Options:
    """`limit_s` bounds the preloading and the draining of one measurement, each."""

    count: int = 2000
    rounds: int = 3
    pools: tuple[Pool, ...] = (PREFORK, Pool("solo"), Pool("threads", 10), Pool("gevent", 100))
    prefetch: int = 4
    late: bool = False
    task_ms: float = 0.0
    payload: int = 0
    limit_s: float = 30.0


def run(brokers: Sequence[Broker], options: Options, directory: Path) -> list[Measurement]:
    """Measure every pool with every broker in every round."""
    return interleave(
        options.rounds,
        options.pools,
        lambda pool: [broker for broker in brokers if pool.is_green or not broker.peer.green_only],
        lambda broker, pool: measure(broker, pool, options, directory),
    )


def measure(broker: Broker, pool: Pool, options: Options, directory: Path) -> tuple[Values, list[str]]:
    """Preload the queue, let one worker empty it, and return rate and CPU ms per 1,000 tasks."""
    order = Order(options.count - WARM_UP, payload_bytes=options.payload, limit_s=options.limit_s)
    published = publish(broker, broker.settings(), order, 1, directory)
    waiting = published.sent + WARM_UP
    settings = broker.settings(
        count=waiting,
        prefetch_multiplier=options.prefetch,
        acks_late=options.late,
        task_ms=options.task_ms,
    )
    remarks = [] if waiting == options.count else [f"only {waiting} tasks could be preloaded"]
    with Worker(settings, pool, directory) as worker:
        if not worker.wait(1, START_S):
            raise MeasurementError(f"no task started within {START_S:.0f} s\n{worker.log()}")
        machine_before = bystanders.look()
        before, server_before = worker.look(), broker.server_cpu_s()
        done = worker.wait(waiting, options.limit_s)
        after, server_after = worker.look(), broker.server_cpu_s()
        machine_after = bystanders.look()
        starts = worker.records()
    main_s = after.main_cpu_s - before.main_cpu_s
    children_s = after.children_cpu_s - before.children_cpu_s
    server_s = None if server_before is None or server_after is None else server_after - server_before
    others = bystanders.share(machine_before, machine_after, main_s + children_s + (server_s or 0.0))
    remarks += _remarks(broker, starts, waiting, done, worker.stopped_willingly is True)
    remarks += bystanders.remarks(others)
    values: Values = {
        RATE: _rate(starts),
        CLIENT_CPU: published.client_cpu_ms,
        SERVER_PUBLISH_CPU: published.server_cpu_ms,
        MAIN_CPU: _per_thousand(main_s, before, after),
        CHILDREN_CPU: _per_thousand(children_s, before, after),
        SERVER_DRAIN_CPU: None if server_s is None else _per_thousand(server_s, before, after),
    }
    values[CPU_SUM] = sum(value for name, value in values.items() if name != RATE and value is not None)
    values[bystanders.SHARE] = others
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
        *(
            tables.by_value(f"CPU ms per 1,000 tasks, {cell}", measurements, cell, CPU_COLUMNS)
            for cell in tables.cells_of(measurements)
        ),
    ]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Options()
    parser.add_argument("--count", type=int, default=defaults.count, help="tasks per measurement")
    parser.add_argument(
        "--pools", type=listed(Pool.parse), default=defaults.pools, help="such as prefork:2,solo,threads:10"
    )
    parser.add_argument(
        "--prefetch", type=int, default=defaults.prefetch, help="worker_prefetch_multiplier (0: no window)"
    )
    parser.add_argument("--late", action="store_true", help="acknowledge late")
    parser.add_argument("--task-ms", type=float, default=defaults.task_ms, help="how long a task waits")
    parser.add_argument("--payload", type=int, default=defaults.payload, help="bytes of an extra argument")
    parser.add_argument(
        "--limit-s", type=float, default=defaults.limit_s, help="ends one preloading or draining early"
    )


def _options(given: argparse.Namespace) -> Options:
    return Options(
        count=given.count,
        rounds=given.rounds,
        pools=given.pools,
        prefetch=given.prefetch,
        late=given.late,
        task_ms=given.task_ms,
        payload=given.payload,
        limit_s=given.limit_s,
    )


FIGURE = Figure(peers.DRAIN, "tasks per second of a stock worker", _add_arguments, _options, run, _tables)
