"""A Broadcast queue: every worker executes every task."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fixtures.waiting import eventually


def test_every_worker_runs_it(site):
    """Two workers, three tasks: six executions, three on each."""
    workers = [site.worker("-Q", "celery,everybody", pool="solo") for _ in range(2)]
    ids = [site.send("record", number, queue="everybody") for number in range(3)]
    eventually(lambda: len(site.record.entries()) >= 6)
    executions = Counter((entry.id, entry.hostname) for entry in site.record.entries() if entry.id in ids)
    assert executions == Counter((task_id, worker.nodename) for task_id in ids for worker in workers)


def test_late_worker_gets_what_comes_later(site):
    """A worker hears what is sent while it consumes, and nothing from before."""
    first = site.worker("-Q", "celery,everybody", pool="solo")
    before = site.send("record", "before", queue="everybody")
    site.record.wait_for_one(before)
    second = site.worker("-Q", "celery,everybody", pool="solo")
    after = site.send("record", "after", queue="everybody")
    eventually(lambda: len(site.record.of(after)) == 2)
    assert [entry.hostname for entry in site.record.of(before)] == [first.nodename]
    assert {entry.hostname for entry in site.record.of(after)} == {first.nodename, second.nodename}


def test_stopped_worker_leaves_nothing(site):
    """Its queue goes with it: nothing is stored for a worker that is not there."""
    site.worker("-Q", "celery,everybody", pool="solo").stop()
    survivor = site.worker("-Q", "celery,everybody", pool="solo")
    task_id = site.send("record", queue="everybody")
    site.record.wait_for_one(task_id)
    assert [entry.hostname for entry in site.record.of(task_id)] == [survivor.nodename]


@pytest.mark.parametrize("command", ["ping", "stats"])
def test_remote_control_reaches_everybody(site, command):
    """Without a destination, all workers answer within the second that Celery's tools wait.

    Not each time: the machine may stand still for as long.
    """
    workers = [site.worker("-Q", "celery", pool=pool) for pool in ("solo", "threads")]
    names = {worker.nodename for worker in workers}
    eventually(lambda: set(getattr(site.control.inspect(timeout=1), command)() or ()) == names)
