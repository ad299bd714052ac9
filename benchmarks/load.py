"""A kind of work: how many workers of which pool, how they prefetch and acknowledge, what a task is like."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from benchmarks.figure import listed, one_of
from benchmarks.worker import PREFORK, SOLO, Pool

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EARLY = "early"
LATE = "late"
OFF = "off"
ON = "on"

#: `worker_prefetch_multiplier` as Celery has it.
PREFETCH = 4

# So much may be preloaded: 2,000 messages of 1 MB would measure the swap.
_PRELOADED_BYTES = 100_000_000

POOLS = (PREFORK, SOLO, Pool("threads", 10), Pool("gevent", 100))


@dataclass(frozen=True)
class Load:
    """A cell of a table. Its text names the pool, and whatever is not the default."""

    pool: Pool = PREFORK
    workers: int = 1
    prefetch: int = PREFETCH
    acks: str = EARLY
    task_ms: float = 0.0
    payload: int = 0
    events: str = OFF

    def __str__(self) -> str:
        parts = [
            str(self.pool),
            f"{self.workers} workers" if self.workers > 1 else "",
            f"prefetch {self.prefetch}" if self.prefetch != PREFETCH else "",
            "late acks" if self.acks == LATE else "",
            f"{self.task_ms:g} ms" if self.task_ms else "",
            f"{self.payload} B" if self.payload else "",
            "-E" if self.events == ON else "",
        ]
        return ", ".join(part for part in parts if part)

    @property
    def extra(self) -> list[str]:
        """What the command line of a worker gets beside its pool."""
        return ["-E"] if self.events == ON else []

    def fitting(self, count: int, limit_s: float) -> int:
        """Return how many of `count` tasks fit: half the limit at best, and 100 MB, but never below 20."""
        fits = count
        if self.task_ms:
            at_once = self.workers * (self.pool.concurrency or 1)
            fits = min(fits, int(at_once * limit_s / 2 / (self.task_ms / 1000)))
        if self.payload:
            fits = min(fits, _PRELOADED_BYTES // self.payload)
        return min(count, max(20, fits))


@dataclass(frozen=True)
class Loads:
    """Every combination of these is a cell."""

    pools: tuple[Pool, ...] = POOLS
    workers: tuple[int, ...] = (1,)
    prefetch: tuple[int, ...] = (PREFETCH,)
    acks: tuple[str, ...] = (EARLY,)
    task_ms: tuple[float, ...] = (0.0,)
    payload: tuple[int, ...] = (0,)
    events: tuple[str, ...] = (OFF,)

    def cells(self) -> Sequence[Load]:
        """Return them; what is varied last stands side by side."""
        return [
            Load(*values)
            for values in product(
                self.pools, self.workers, self.prefetch, self.acks, self.task_ms, self.payload, self.events
            )
        ]


def add_arguments(parser: argparse.ArgumentParser, defaults: Loads) -> None:
    """Add what `Loads` holds; each takes several values, separated by commas."""
    parser.add_argument(
        "--pools", type=listed(Pool.parse), default=defaults.pools, help="such as prefork:2,solo,threads:10"
    )
    parser.add_argument(
        "--workers", type=listed(int), default=defaults.workers, help="how many at once, such as 1,2,4,8"
    )
    parser.add_argument(
        "--prefetch",
        type=listed(int),
        default=defaults.prefetch,
        help="worker_prefetch_multiplier, such as 1,4,64 (0: no window)",
    )
    parser.add_argument("--acks", type=listed(one_of(EARLY, LATE)), default=defaults.acks, help="early,late")
    parser.add_argument(
        "--late", action="store_const", const=(LATE,), dest="acks", help="the same as --acks late"
    )
    parser.add_argument(
        "--task-ms", type=listed(float), default=defaults.task_ms, help="how long a task waits, such as 0,10"
    )
    parser.add_argument(
        "--payload", type=listed(int), default=defaults.payload, help="bytes of an extra argument"
    )
    parser.add_argument(
        "--events", type=listed(one_of(OFF, ON)), default=defaults.events, help="celery worker -E: off,on"
    )


def parsed(given: argparse.Namespace) -> Loads:
    """Return what the command line asks for."""
    return Loads(
        pools=given.pools,
        workers=given.workers,
        prefetch=given.prefetch,
        acks=given.acks,
        task_ms=given.task_ms,
        payload=given.payload,
        events=given.events,
    )
