"""kill -9: how soon what a worker held runs elsewhere, and why it is thought to be dead."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.fixtures.worker import Worker

    from .conftest import Watched

#: Generous: the machine may be busy. The figures are those of `python -m benchmarks recovery`.
NEIGHBOUR_S = 5
OUT_OF_SIGHT_S = 10

UNSHARE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def recovery_s(site: Watched, victim: Worker) -> float:
    """Kill a worker that runs a task, and wait for the task's end elsewhere."""
    task = site.give(victim)
    killed_at = time.monotonic()
    victim.send_signal_to_all(signal.SIGKILL)
    site.record.wait_for([task], "end", timeout_s=30)
    taken = site.record.of(task)[-1]
    assert taken.redelivered
    return taken.monotonic - killed_at


def test_killed_neighbour(site: Watched) -> None:
    """Another worker of the host sees it and waits for nothing, whichever of the two swept."""
    victim, other = site.sweeping(), site.standing_by()
    assert recovery_s(site, victim) < NEIGHBOUR_S
    other.wait_for_line("is gone: its process has ended: 1 of its messages are ready again")
    third = site.standing_by()
    assert recovery_s(site, third) < NEIGHBOUR_S


@pytest.mark.parametrize("of", ["sweeper", pytest.param("who stands by", marks=pytest.mark.long)])
def test_killed_out_of_sight(site: Watched, of: str) -> None:
    """A worker of another pid namespace, which stands for another host, has its grace."""
    if shutil.which("unshare") is None or subprocess.run([*UNSHARE, "true"], check=False).returncode:
        pytest.skip("not run: this user may not make a pid namespace")
    if of == "sweeper":
        victim, other = site.sweeping(wrapper=UNSHARE), site.standing_by()
    else:
        other, victim = site.sweeping(), site.standing_by(wrapper=UNSHARE)
    assert 0.5 < recovery_s(site, victim) < OUT_OF_SIGHT_S
    other.wait_for_line("is gone: its sessions ended, and it did not return within 1 s: 1 of its")
