"""How much of the machine was used by what does not belong to the comparison.

A rate that was taken beside a compiler is no rate.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")

# user, nice, system, irq, softirq, steal: the fields that are work, done here or, as stolen time, by another
# guest of the same host.
_WORKING = (0, 1, 2, 5, 6, 7)


@dataclass(frozen=True)
class MachineLook:
    """All work of all processors up to a moment, and this process's part of it."""

    at_s: float
    busy_s: float
    observer_s: float
    processors: int


def look() -> MachineLook | None:
    """Look at the machine now; None where the system does not tell."""
    try:
        lines = _STAT.read_text().splitlines()
    except OSError:
        return None
    fields = lines[0].split()[1:]
    # As many as the figures are of, which may be more than those that a container is given.
    processors = sum(line.startswith("cpu") for line in lines) - 1
    busy_s = sum(int(fields[index]) for index in _WORKING) * _TICK_S
    return MachineLook(time.monotonic(), busy_s, time.process_time(), processors)


def share(before: MachineLook | None, after: MachineLook | None, own_s: float) -> float | None:
    """The part of the processors' time, 0 to 1, that neither we nor the `own_s` seconds explain."""
    if before is None or after is None:
        return None
    others_s = (after.busy_s - before.busy_s) - (after.observer_s - before.observer_s) - own_s
    could_s = (after.at_s - before.at_s) * after.processors
    return min(1.0, max(0.0, others_s / could_s)) if could_s > 0 else None
