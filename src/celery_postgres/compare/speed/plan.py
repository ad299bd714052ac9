"""How many tasks a contender gets in each round, so that a slow one takes no longer than a fast one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .workload import CHORD_SIZE

if TYPE_CHECKING:
    from celery_postgres.compare.request import Request

    from .rehearsal import Estimate
    from .workload import Workloads

# A worker's start and end, which no count makes shorter.
_OVERHEAD_S = 2.0

# What of the rest goes where; publishing and draining together.
_FIRST_SHARE = 0.33
_OTHER_SHARES = 0.18
_LATENCY_SHARE = 0.18
_TRIP_SHARE = 0.18
_CHORD_SHARE = 0.13

_MOST = 20_000
_INTERVAL_MS = 20.0
_LEAST_SAMPLES = 3
# A chord may take longer than its share if it is a single one, but not without end.
_LONGEST_CHORD_S = 10.0


@dataclass(frozen=True)
class Plan:
    """The same for all rounds of one contender."""

    counts: dict[str, int]
    """By the key of the workload: how many are published and drained."""
    publish_limit_s: float
    samples: int
    """Of the idle latency, at this interval."""
    interval_ms: float
    trips_s: float
    chords_s: float
    """0 leaves chords out, since one alone would take too long."""
    rest_s: float
    """How long the worker is left alone until its last task has surely ended."""

    @classmethod
    def of(cls, request: Request, workloads: Workloads, estimate: Estimate, visit_s: float) -> Plan:
        """Made of what a rehearsal took; `visit_s` is for one contender in one round."""
        free_s = max(visit_s - _OVERHEAD_S, visit_s / 4)
        others = workloads.sent[1:]
        first_s = free_s * (_FIRST_SHARE if others else _FIRST_SHARE + _OTHER_SHARES)
        shares = {workloads.main.key: first_s}
        shares.update((one.key, free_s * _OTHER_SHARES / len(others)) for one in others)
        # Each process of the pool has something to do, and the probe's tasks cost nobody anything.
        least = (2 if request.calls else 20) * request.concurrency + 2
        counts = {
            key: max(least, min(_MOST, int(share_s / (estimate.publish_s + estimate.drain_s[key]))))
            for key, share_s in shares.items()
        }
        # The next one shall find an idle worker.
        interval_ms = max(_INTERVAL_MS, 1500 * estimate.duration_s)
        chord_s = CHORD_SIZE * (estimate.drain_s[workloads.main.key] + estimate.publish_s)
        return cls(
            counts=counts,
            publish_limit_s=max(first_s, 1.0) * 3,
            samples=max(_LEAST_SAMPLES, int(free_s * _LATENCY_SHARE * 1000 / interval_ms)),
            interval_ms=interval_ms,
            trips_s=free_s * _TRIP_SHARE,
            chords_s=0.0 if chord_s > _LONGEST_CHORD_S else free_s * _CHORD_SHARE,
            rest_s=2 * estimate.duration_s,
        )
