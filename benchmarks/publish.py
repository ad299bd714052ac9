"""`publish`: how many messages per second one process gets accepted, and several at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from benchmarks import bystanders, peers, publishing, tables
from benchmarks.counters import between, each
from benchmarks.figure import Figure, listed, one_of
from benchmarks.measurement import Measurement, Values, interleave
from benchmarks.publisher import DELAY, WAYS, Order
from benchmarks.settings import PERSISTENT, TRANSIENT

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.brokers import Broker
    from benchmarks.tables import Table

RATE = "messages/s"
CLIENT_CPU = "client"
SERVER_CPU = "server"
WAL = "WAL B per message"
COST_COLUMNS = (CLIENT_CPU, SERVER_CPU, WAL)

MODES = {"persistent": PERSISTENT, "transient": TRANSIENT}


@dataclass(frozen=True)
class Options:
    """`count` is per process, `size` is that of batches and groups; `limit_s` bounds one measurement."""

    count: int = 2000
    rounds: int = 3
    processes: tuple[int, ...] = (1, 4)
    modes: tuple[str, ...] = ("persistent", "transient")
    ways: tuple[str, ...] = (DELAY,)
    size: int = 1000
    payload: int = 0
    limit_s: float = 60.0


@dataclass(frozen=True)
class Cell:
    """So many processes at once, in one delivery mode, in one way."""

    processes: int
    mode: str
    way: str = DELAY

    def __str__(self) -> str:
        way = "" if self.way == DELAY else f", {self.way}"
        return f"{self.processes} process{'es' if self.processes > 1 else ''}, {self.mode}{way}"


def run(brokers: Sequence[Broker], options: Options, directory: Path) -> list[Measurement]:
    """Measure every number of processes and every mode that the peer tells apart."""

    def peers_of(cell: Cell) -> list[Broker]:
        return [b for b in brokers if cell.mode == "persistent" or b.peer.honours_delivery_mode]

    return interleave(
        options.rounds,
        [Cell(*values) for values in product(options.processes, options.modes, options.ways)],
        peers_of,
        lambda broker, cell: measure(broker, cell, options, directory),
    )


def measure(broker: Broker, cell: Cell, options: Options, directory: Path) -> tuple[Values, list[str]]:
    """Publish, count what arrived, and empty the queue again."""
    order = Order(
        options.count,
        payload_bytes=options.payload,
        limit_s=options.limit_s,
        way=cell.way,
        size=options.size,
    )
    settings = broker.settings(delivery_mode=MODES[cell.mode])
    wal_before = broker.counters().wal_bytes
    published = publishing.publish(broker, settings, order, cell.processes, directory)
    wal_after = broker.counters().wal_bytes
    expected = published.sent + cell.processes * order.warm_up
    remarks = []
    if published.sent < options.count * cell.processes:
        remarks.append(f"{published.sent} sent at the limit")
    if broker.peer.exact and (arrived := broker.size()) != expected:
        remarks.append(f"{arrived} of {expected} messages are in the queue")
    broker.purge()
    values: Values = {
        RATE: published.per_s,
        CLIENT_CPU: published.client_cpu_ms,
        SERVER_CPU: published.server_cpu_ms,
        WAL: each(between(wal_before, wal_after), expected),
        bystanders.SHARE: published.others_percent,
    }
    remarks += bystanders.remarks(published.others_percent)
    return values, remarks


def _tables(measurements: Sequence[Measurement], baseline: str) -> list[Table]:
    title = "Messages per second"
    return [
        tables.by_cell(title, measurements, RATE),
        tables.by_ratio(f"{title}, as a ratio to {baseline}", measurements, RATE, baseline),
        *tables.by_first_cell(title, measurements, RATE),
        *(
            tables.by_value(f"CPU ms per 1,000 messages, {cell}", measurements, cell, COST_COLUMNS)
            for cell in tables.cells_of(measurements)
        ),
    ]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Options()
    parser.add_argument("--count", type=int, default=defaults.count, help="messages per process")
    parser.add_argument(
        "--processes", type=listed(int), default=defaults.processes, help="how many at once, such as 1,4"
    )
    parser.add_argument(
        "--modes", type=listed(one_of(*MODES)), default=defaults.modes, help="persistent,transient"
    )
    parser.add_argument(
        "--ways", type=listed(one_of(*WAYS)), default=defaults.ways, help=f"of sending: {','.join(WAYS)}"
    )
    parser.add_argument("--size", type=int, default=defaults.size, help="messages of a batch or a group")
    parser.add_argument("--payload", type=int, default=defaults.payload, help="bytes of an extra argument")
    parser.add_argument("--limit-s", type=float, default=defaults.limit_s, help="ends one measurement early")


def _options(given: argparse.Namespace) -> Options:
    return Options(
        count=given.count,
        rounds=given.rounds,
        processes=given.processes,
        modes=given.modes,
        ways=given.ways,
        size=given.size,
        payload=given.payload,
        limit_s=given.limit_s,
    )


FIGURE = Figure(peers.PUBLISH, "messages accepted per second", _add_arguments, _options, run, _tables)
