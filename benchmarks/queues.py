"""`queues`: a bare consumer of this project beside queues of their own, all over the same PostgreSQL."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from benchmarks import bystanders, peers, processes, records, tables
from benchmarks.bare.contestants import CELLS, CONTESTANTS, DEFAULTS, Contestant
from benchmarks.bare.order import Order
from benchmarks.clients import ROOT, MeasurementError, tail
from benchmarks.counters import between, each
from benchmarks.figure import Figure, listed, one_of
from benchmarks.measurement import Measurement, Values, interleave
from benchmarks.worker import LOOK_S, START_S

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.brokers import Broker
    from benchmarks.tables import Table

RATE = "jobs/s"
CONSUMER_CPU = "consumer"
SERVER_CPU = "server"
WAL = "WAL B"
COLUMNS = (CONSUMER_CPU, SERVER_CPU, WAL)


@dataclass(frozen=True)
class Options:
    """`limit_s` bounds one measurement; whoever is slower is measured by what was done until then."""

    count: int = 5000
    rounds: int = 3
    cells: tuple[str, ...] = CELLS
    limit_s: float = 20.0


def run(brokers: Sequence[Broker], options: Options, directory: Path) -> list[Measurement]:
    """Measure defaults against defaults and tuned against tuned, in every round."""
    return interleave(
        options.rounds,
        options.cells,
        lambda _: brokers,
        lambda broker, cell: measure(broker, cell, options, directory),
    )


def measure(broker: Broker, cell: str, options: Options, directory: Path) -> tuple[Values, list[str]]:
    """Claim, execute and complete jobs that do nothing, from the first start until nothing is left."""
    contestant = CONTESTANTS[broker.peer.name]
    settings = contestant.defaults if cell == DEFAULTS else contestant.tuned
    record_path, log_path = directory / "records", directory / "consumer.log"
    record_path.unlink(missing_ok=True)
    place = broker.server.prepare(f"{broker.queue}_{cell}")
    order = Order(place, broker.queue, options.count, str(record_path), dict(settings)).text()
    try:
        _fill(contestant, order, log_path)
        with log_path.open("wb") as log:
            consumer = subprocess.Popen(
                contestant.command("consume", order),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            return _watched(broker, contestant, consumer, place, options, record_path, log_path)
        finally:
            processes.stop(consumer, patience_s=5)
    finally:
        broker.server.clean(f"{broker.queue}_{cell}")


def _watched(
    broker: Broker,
    contestant: Contestant,
    consumer: subprocess.Popen[bytes],
    place: str,
    options: Options,
    record_path: Path,
    log_path: Path,
) -> tuple[Values, list[str]]:
    def wait(until: Callable[[], bool], limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        while not until():
            if consumer.poll() is not None:
                raise MeasurementError(f"the consumer ended with {consumer.returncode}:\n{tail(log_path)}")
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
        return True

    if not wait(lambda: records.count(record_path) > 0, START_S):
        raise MeasurementError(f"no job started within {START_S:.0f} s\n{tail(log_path)}")
    with psycopg.connect(place, autocommit=True) as connection:

        def left() -> int:
            row = connection.execute(contestant.left).fetchone()
            assert row is not None
            return int(row[0])

        machine_before, wal_before = bystanders.look(), broker.counters().wal_bytes
        done_before = options.count - left()
        cpu_before, server_before = processes.tree_cpu_s(consumer.pid), broker.server_cpu_s()
        # Counting what is left costs the server, so it is not asked before every job has begun.
        complete = wait(lambda: records.count(record_path) >= options.count, options.limit_s) and wait(
            lambda: left() == 0, options.limit_s
        )
        ended_ns = time.monotonic_ns()
        done = options.count - left()
    cpu_after, server_after = processes.tree_cpu_s(consumer.pid), broker.server_cpu_s()
    wal_after, machine_after = broker.counters().wal_bytes, bystanders.look()
    starts = records.read(record_path)
    consumer_s, server_s = cpu_after - cpu_before, between(server_before, server_after)
    others = bystanders.share(machine_before, machine_after, consumer_s + (server_s or 0.0))
    jobs = max(1, done - done_before)
    values: Values = {
        RATE: done / ((ended_ns - starts[0].started_ns) / 1e9),
        CONSUMER_CPU: consumer_s * 1e6 / jobs,
        SERVER_CPU: None if server_s is None else server_s * 1e6 / jobs,
        WAL: each(between(wal_before, wal_after), jobs),
        bystanders.SHARE: others,
    }
    remarks = [] if complete else [f"{done} of {options.count} at the limit"]
    if len({record.number for record in starts}) < len(starts):
        remarks.append("jobs started twice")
    return values, remarks + bystanders.remarks(others)


def _fill(contestant: Contestant, order: str, log_path: Path) -> None:
    filled = subprocess.run(
        contestant.command("fill", order), cwd=ROOT, capture_output=True, text=True, check=False
    )
    if filled.returncode:
        log_path.write_text(filled.stdout + filled.stderr)
        raise MeasurementError(f"the queue could not be filled:\n{tail(log_path)}")


def _tables(measurements: Sequence[Measurement], baseline: str) -> list[Table]:
    title = "Jobs per second, done"
    return [
        tables.by_cell(title, measurements, RATE),
        tables.by_ratio(f"{title}, as a ratio to {baseline}", measurements, RATE, baseline),
        *(
            tables.by_value(f"CPU ms per 1,000 jobs, WAL per job, {cell}", measurements, cell, COLUMNS)
            for cell in tables.cells_of(measurements)
        ),
    ]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Options()
    parser.add_argument("--count", type=int, default=defaults.count, help="jobs per measurement")
    parser.add_argument("--cells", type=listed(one_of(*CELLS)), default=defaults.cells, help=",".join(CELLS))
    parser.add_argument("--limit-s", type=float, default=defaults.limit_s, help="ends one measurement early")


def _options(given: argparse.Namespace) -> Options:
    return Options(count=given.count, rounds=given.rounds, cells=given.cells, limit_s=given.limit_s)


FIGURE = Figure(peers.QUEUES, "queues of their own, without Celery", _add_arguments, _options, run, _tables)
