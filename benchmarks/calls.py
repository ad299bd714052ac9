"""What the figures of a client that waits for its results have in common: options and columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import tables
from benchmarks.calling import CPU_COLUMNS
from benchmarks.figure import listed
from benchmarks.worker import PREFORK, Pool

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from benchmarks.measurement import Measurement
    from benchmarks.tables import Table


@dataclass(frozen=True)
class CallOptions:
    """`samples` calls make a measurement, which `limit_s` may end early."""

    samples: int = 200
    rounds: int = 3
    pools: tuple[Pool, ...] = (PREFORK,)
    limit_s: float = 20.0


def add_arguments(parser: argparse.ArgumentParser, defaults: CallOptions, calls: str) -> None:
    """The arguments behind these options; `calls` is the noun of what is called."""
    parser.add_argument("--samples", type=int, default=defaults.samples, help=f"{calls} per measurement")
    parser.add_argument("--pools", type=listed(Pool.parse), default=defaults.pools, help="such as prefork:2")
    parser.add_argument("--limit-s", type=float, default=defaults.limit_s, help="ends one measurement early")


def given_options(given: argparse.Namespace) -> dict[str, Any]:
    """What was given for them."""
    return {name: getattr(given, name) for name in ("samples", "rounds", "pools", "limit_s")}


def cpu_tables(measurements: Sequence[Measurement], per: str) -> list[Table]:
    """One table for each cell: who spent how much."""
    return [
        tables.by_value(f"CPU ms per {per}, {cell}", measurements, cell, CPU_COLUMNS)
        for cell in tables.cells_of(measurements)
    ]
