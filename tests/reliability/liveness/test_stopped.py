"""SIGSTOP: the sessions stay, the kernel answers for the process, and nothing moves."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from .conftest import Watched

#: What it meets first: that its session was ended, or that its row is gone.
BEGINS_ANEW = "this consumer was declared dead|Connection to broker lost"

SHORT = {"broker_transport_options": {"stall_timeout": 2, "statement_timeout": 1}}


@pytest.mark.parametrize(
    "sweeps",
    [pytest.param(True, id="sweeper", marks=pytest.mark.long), pytest.param(False, id="another")],
)
def test_worker_that_is_stopped_for_a_while(site: Watched, sweeps: bool) -> None:
    """After five seconds it goes on as if nothing had happened."""
    if sweeps:
        victim, other = site.sweeping(), site.standing_by()
    else:
        other, victim = site.sweeping(), site.standing_by()
    task = site.give(victim, 6)
    victim.send_signal_to_all(signal.SIGSTOP)
    time.sleep(5)
    victim.send_signal_to_all(signal.SIGCONT)
    (end,) = site.record.wait_for([task], "end")[-1:]
    assert end.hostname == victim.nodename
    eventually(lambda: site.broker.unacked() == 0)
    assert site.record.counts()[task] == 1
    assert not any("is gone" in line for line in other.lines + victim.lines)


def test_stopped_worker_is_fenced(site: Watched) -> None:
    """After `stall_timeout` others run what it held; when it moves again, it begins anew."""
    other, victim = site.sweeping(**SHORT), site.standing_by(**SHORT)
    task = site.give(victim, 3)
    victim.send_signal_to_all(signal.SIGSTOP)
    site.record.wait_for([task], "end", timeout_s=30)
    other.wait_for_line("is gone: it stands still: no beat within 2 s: 1 of its messages are ready again")
    eventually(lambda: site.broker.unacked() == 0)
    victim.send_signal_to_all(signal.SIGCONT)
    victim.wait_for_line(BEGINS_ANEW)
    other.stop()
    site.record.wait_for_one(site.send("record"))
    assert victim.alive


@pytest.mark.long
@pytest.mark.parametrize("sweeps", [True, False], ids=["sweeper", "another"])
def test_worker_that_is_stopped_for_ninety_seconds(site: Watched, sweeps: bool) -> None:
    """It is fenced with the default `stall_timeout`, whatever it did for all."""
    if sweeps:
        victim, _ = site.sweeping(), site.standing_by()
    else:
        _, victim = site.sweeping(), site.standing_by()
    task = site.give(victim)
    victim.send_signal_to_all(signal.SIGSTOP)
    site.record.wait_for([task], "end", timeout_s=90)
    victim.send_signal_to_all(signal.SIGCONT)
    victim.wait_for_line(BEGINS_ANEW)


@pytest.mark.long
def test_sweeping_is_taken_from_one_that_stands_still(site: Watched) -> None:
    """Long before it is fenced itself, so that others get what is due; it keeps what it holds."""
    options = {"broker_transport_options": {"statement_timeout": 1}}
    victim, other = site.sweeping(**options), site.standing_by(**options)
    task = site.give(victim, 30)
    victim.send_signal_to_all(signal.SIGSTOP)
    later = site.send("record", countdown=2)
    site.record.wait_for([later], timeout_s=30)
    other.wait_for_line("sweeps and has not moved for 11 s: taking over")
    victim.send_signal_to_all(signal.SIGCONT)
    site.record.wait_for([task], "end", timeout_s=60)
    assert site.record.counts()[task] == 1
