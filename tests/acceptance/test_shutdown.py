"""A worker that is told to end finishes what it runs and gives back the rest."""

from __future__ import annotations

import signal
import time

import pytest

from tests.fixtures.waiting import eventually
from tests.fixtures.worker import POOLS


@pytest.mark.parametrize("pool", POOLS)
def test_warm_shutdown(site, pool, tmp_path):
    """SIGTERM: the running task ends, what had not begun is released, nothing is lost or run twice."""
    worker = site.worker("-Q", "celery", pool=pool, worker_prefetch_multiplier=4, task_acks_late=True)
    running = site.send("hold", str(tmp_path / "go"))
    site.record.wait_for_one(running)
    waiting = [site.send("record", number) for number in range(6)]
    worker.send_signal(signal.SIGTERM)
    worker.wait_for_line("Warm shutdown")
    (tmp_path / "go").touch()
    assert worker.wait(60) == 0
    assert len(site.record.of(running, "end")) == 1
    begun = set(site.record.counts()) & set(waiting)
    if pool not in ("gevent", "eventlet"):  # which notice the signal between their tasks
        assert len(begun) < 6, "the worker emptied the queue instead of ending"
    if pool == "prefork":
        assert not begun
    assert site.broker.unacked() == 0
    assert site.broker.waiting("celery") == 6 - len(begun)
    site.worker("-Q", "celery", pool="solo")
    site.record.wait_for(waiting)
    assert all(count == 1 for count in site.record.counts().values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["SIGINT", "SIGQUIT"])
def test_other_signals(site, number, tmp_path):
    """SIGINT is a warm shutdown as well; after SIGQUIT the running task is given back, and runs again."""
    worker = site.worker("-Q", "celery", worker_prefetch_multiplier=4, task_acks_late=True)
    cold = number == signal.SIGQUIT
    running = site.send("sleep_at_first", 600) if cold else site.send("hold", str(tmp_path / "go"))
    site.record.wait_for_one(running)
    # Celery cancels what it knows to run, and waits for a task of whose beginning it has not read yet.
    eventually(lambda: site.inspect(worker).active()[worker.nodename])
    waiting = [site.send("record", number) for number in range(3)]
    worker.send_signal(number)
    worker.wait_for_line("Cold shutdown" if cold else "Warm shutdown", 60)
    (tmp_path / "go").touch()
    worker.wait(60)
    assert site.broker.unacked() == 0
    eventually(lambda: site.broker.waiting("celery") == (4 if cold else 3))
    site.worker("-Q", "celery")
    site.record.wait_for([running, *waiting], "begin")
    site.record.wait_for_one(running, "end")
    assert [entry.redelivered for entry in site.record.of(running)] == ([False, True] if cold else [False])
    assert all(count == 1 for task_id, count in site.record.counts().items() if task_id != running)


@pytest.mark.ours("repaired for workers over PostgreSQL alone")
def test_a_task_that_was_just_handed_over(site):
    """Of which the pool has not told yet that it began: the worker waits for it, and for no more."""
    handed_over = site.send("record")
    worker = site.start_worker("-Q", "celery", "-I", "ending", task_acks_late=True)
    assert worker.wait(timeout_s=60) == 0
    assert site.record.counts() == {handed_over: 1}
    assert site.broker.unacked() == 0
    assert site.broker.waiting("celery") == 0, "the task is done, and would run again"


@pytest.mark.ours("our poll interval")
def test_an_idle_worker_notices_the_signal(site):
    """No message, no heartbeat and no poll wakes it, and still it does not sleep on.

    In the solo pool: Celery takes 1.5 s to end the processes of a prefork pool, over any broker.
    """
    slow = {"poll_interval": 60, "max_poll_interval": 60}
    worker = site.worker("-Q", "celery", "--without-heartbeat", pool="solo", broker_transport_options=slow)
    marker = site.send("record")
    site.record.wait_for_one(marker)
    assert worker.stop(signal.SIGTERM, timeout_s=20) == 0


def test_eta_tasks_survive_a_shutdown(site):
    """A task that waits for its time is run by whoever is there then."""
    worker = site.worker("-Q", "celery")
    published = time.monotonic()
    later = site.send("record", countdown=5)
    marker = site.send("record")
    site.record.wait_for_one(marker)
    assert worker.stop(signal.SIGTERM) == 0
    site.worker("-Q", "celery")
    entry = site.record.wait_for_one(later)
    assert entry.monotonic - published >= 5 - 0.01
    assert site.record.counts()[later] == 1
