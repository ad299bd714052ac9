"""`sustained`: the same load for a long time; does it stay as it was, and do the tables stay small?"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from benchmarks import peers, tables
from benchmarks.clients import MeasurementError
from benchmarks.figure import Figure
from benchmarks.measurement import Measurement, Values
from benchmarks.publisher import Order
from benchmarks.publishing import Publishers
from benchmarks.statistics import percentile
from benchmarks.worker import PREFORK, START_S, Pool, Worker

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.brokers import Broker
    from benchmarks.records import Record
    from benchmarks.tables import Table

PERCENTILES = (50, 95, 99)
STARTED = "tasks/s"
SIZE = "MB"
SERVER_CPU = "server CPU %"
COLUMNS = (STARTED, *(f"p{percent} ms" for percent in PERCENTILES), SIZE, SERVER_CPU)

_WARM_UP = 20
_LAST_S = 30.0


@dataclass(frozen=True)
class Options:
    """`rate` is in tasks per second; a period of `period_s` is a cell."""

    rate: float = 300.0
    minutes: float = 5.0
    period_s: float = 60.0
    rounds: int = 1
    pool: Pool = PREFORK


@dataclass(frozen=True)
class Look:
    """The server at the end of a period."""

    at_ns: int
    size_mb: float | None
    cpu_s: float | None


def run(brokers: Sequence[Broker], options: Options, directory: Path) -> list[Measurement]:
    """Measure one broker after the other: what lasts an hour cannot be interleaved."""
    taken = []
    for number in range(1, options.rounds + 1):
        for broker in brokers:
            try:
                taken += measure(broker, number, options, directory)
            except MeasurementError as error:
                taken.append(Measurement(broker.peer.name, "all", number, {}, [f"failed: {error}"]))
    return taken


def measure(broker: Broker, number: int, options: Options, directory: Path) -> list[Measurement]:
    """Send at an even pace, and return a measurement for each period."""
    count = int(options.rate * options.minutes * 60)
    order = Order(
        count, warm_up=_WARM_UP, interval_ms=1000 / options.rate, limit_s=options.minutes * 60 + _LAST_S
    )
    settings = broker.settings()
    with (
        Worker(settings, options.pool, directory) as worker,
        Publishers(settings, order, 1, directory) as publishers,
    ):
        if not worker.wait(_WARM_UP, START_S):
            raise MeasurementError(f"the warm-up did not end within {START_S:.0f} s\n{worker.log()}")
        looks = [_look(broker)]
        over = threading.Event()

        def watch() -> None:
            periods = 1
            while not over.wait(looks[0].at_ns / 1e9 + periods * options.period_s - time.monotonic()):
                looks.append(_look(broker))
                periods += 1

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            (outcome,) = publishers.send()
        finally:
            over.set()
            watcher.join()
        done = worker.wait(_WARM_UP + outcome.sent, _LAST_S)
        looks.append(_look(broker))
        starts = [record for record in worker.records() if record.number >= 0]
    remarks = [] if outcome.sent == count else [f"{outcome.sent} of {count} were sent in time"]
    if not done:
        remarks.append(f"{len(starts)} of {outcome.sent} started")
    broker.purge()
    return _periods(broker.peer.name, number, starts, looks, remarks)


def _periods(
    peer: str, number: int, starts: Sequence[Record], looks: Sequence[Look], remarks: list[str]
) -> list[Measurement]:
    """Each period with the tasks that were sent in it; the remarks of the whole go to the last."""
    taken = []
    for place, (before, after) in enumerate(pairwise(looks), start=1):
        delays = [(r.started_ns - r.sent_ns) / 1e6 for r in starts if before.at_ns <= r.sent_ns < after.at_ns]
        # Whatever the last period is short of, it is no period.
        if not delays or (place > 1 and place == len(looks) - 1 and len(delays) < len(starts) / place / 2):
            continue
        took_s = (after.at_ns - before.at_ns) / 1e9
        values: Values = {
            STARTED: len(delays) / took_s,
            **{f"p{percent} ms": percentile(delays, percent) for percent in PERCENTILES},
            SIZE: after.size_mb,
            SERVER_CPU: None
            if before.cpu_s is None or after.cpu_s is None
            else 100 * (after.cpu_s - before.cpu_s) / took_s,
        }
        taken.append(Measurement(peer, f"period {place}", number, values))
    if taken:
        taken[-1].remarks.extend(remarks)
    return taken


def _look(broker: Broker) -> Look:
    return Look(time.monotonic_ns(), broker.server.size_mb(broker.queue), broker.server_cpu_s())


def _tables(measurements: Sequence[Measurement], _: str) -> list[Table]:
    last = f"p{PERCENTILES[-1]} ms"
    return [
        *(
            tables.by_period(f"{peer}, period by period", measurements, peer, COLUMNS)
            for peer in _peers(measurements)
        ),
        *tables.by_first_cell(last, measurements, last),
    ]


def _peers(measurements: Sequence[Measurement]) -> list[str]:
    return list(dict.fromkeys(m.peer for m in measurements))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Options()
    parser.add_argument("--rate", type=float, default=defaults.rate, help="tasks per second")
    parser.add_argument("--minutes", type=float, default=defaults.minutes)
    parser.add_argument("--period-s", type=float, default=defaults.period_s, help="one line of the table")
    parser.add_argument("--pool", type=Pool.parse, default=defaults.pool, help="such as prefork:2")
    # A long run is taken once.
    parser.set_defaults(rounds=defaults.rounds)


def _options(given: argparse.Namespace) -> Options:
    return Options(
        rate=given.rate,
        minutes=given.minutes,
        period_s=given.period_s,
        rounds=given.rounds,
        pool=given.pool,
    )


FIGURE = Figure(peers.SUSTAINED, "an even load for a long time", _add_arguments, _options, run, _tables)
