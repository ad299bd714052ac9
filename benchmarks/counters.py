"""What a server counted about one place: write-ahead log, dead rows, commands, connections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counters:
    """Totals since the place was made, and the connections of this moment; None where nobody counts.

    `wal_bytes` is the whole server's. `dead_rows` are versions of rows that became garbage.
    `commands` are Redis' commands, and PostgreSQL's transactions: one round trip of ours is one.
    """

    wal_bytes: float | None = None
    dead_rows: float | None = None
    commands: float | None = None
    connections: float | None = None


def between(before: float | None, after: float | None) -> float | None:
    """Return how much was added, None where it could not be seen."""
    return None if before is None or after is None else after - before


def each(total: float | None, tasks: int) -> float | None:
    """Return the share of one task."""
    return None if total is None or not tasks else total / tasks
