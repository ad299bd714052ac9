"""How much of the machine was used by what does not belong to the measurement.

A rate that was taken beside a compiler is no rate. The share is kept with every measurement,
and one that is large becomes a remark.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

SHARE = "others %"

_REMARKABLE_PERCENT = 10.0

# user, nice, system, idle, iowait, irq, softirq, steal: the fields of /proc/stat that are work, done here
# or, as stolen time, by another guest of the same host.
_WORKING = (0, 1, 2, 5, 6, 7)
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class MachineLook:
    """All work of all processors up to a moment, and our own observing process's part of it."""

    at_s: float
    busy_s: float
    observer_s: float


def look(link_cpu_s: float = 0.0) -> MachineLook:
    """Look at the machine now; what a slow link has used so far is ours too."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    busy_s = sum(int(fields[index]) for index in _WORKING) * _TICK_S
    return MachineLook(time.monotonic(), busy_s, time.process_time() + link_cpu_s)


def share(before: MachineLook, after: MachineLook, own_s: float) -> float:
    """Return the percentage of the processors' time that neither we nor the `own_s` seconds explain."""
    others_s = (after.busy_s - before.busy_s) - (after.observer_s - before.observer_s) - own_s
    could_s = (after.at_s - before.at_s) * len(os.sched_getaffinity(0))
    return max(0.0, 100 * others_s / could_s)


def remarks(percent: float) -> list[str]:
    """Return a remark if the share is too large to be passed over."""
    if percent < _REMARKABLE_PERCENT:
        return []
    return [f"others used {percent:.0f} % of the processors"]
