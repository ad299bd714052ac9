"""What a killed process held is run by somebody else.

With `task_acks_late` and `task_reject_on_worker_lost` that is everything. With Celery's default, a task is
acknowledged before it runs: then the running one is lost with its worker, over any broker.
"""

from __future__ import annotations

import signal
import time

import pytest

from tests.fixtures.waiting import eventually

RECOVERY_S = 10

LATE = {"task_acks_late": True, "task_reject_on_worker_lost": True}

pytestmark = pytest.mark.differs(redis="nobody takes them for an hour, the default visibility timeout")


@pytest.mark.parametrize(
    ("pool", "settings"),
    [("prefork", LATE), ("solo", LATE), ("threads", LATE), ("gevent", LATE), ("prefork", {}), ("solo", {})],
    ids=["prefork", "solo", "threads", "gevent", "prefork, early", "solo, early"],
)
def test_killed_worker(site, pool, settings):
    """kill -9 of a worker and its pool: another worker runs all that it held, within ten seconds."""
    late = bool(settings)
    concurrency = 2 if pool == "prefork" else 1
    options = {"pool": pool, "concurrency": concurrency, "worker_prefetch_multiplier": 8}
    victim = site.worker("-Q", "celery", **options, **settings)
    ids = [site.send("sleep_on", victim.nodename, 60) for _ in range(concurrency)]
    site.record.wait_for(ids)
    if not late:  # a pool tells that a task began behind its beginning
        eventually(lambda: site.broker.unacked() == 0)
    ids += [site.send("sleep_on", victim.nodename, 60) for _ in range(6)]
    site.worker("-Q", "celery", pool="threads", concurrency=8, **settings)
    begun = set(site.record.counts())
    killed_at = time.monotonic()
    victim.send_signal_to_all(signal.SIGKILL)
    expected = set(ids) if late else set(ids[concurrency:])
    ends = site.record.wait_for(expected, "end", timeout_s=RECOVERY_S + 5)
    recovery_s = max(entry.monotonic for entry in ends) - killed_at
    print(f"everything was run {recovery_s:.2f} s after the kill")
    assert sorted(entry.id for entry in ends) == sorted(expected), "one of them ran twice"
    assert recovery_s < RECOVERY_S
    again = [entry for entry in site.record.entries() if entry.monotonic > killed_at and entry.id in begun]
    assert all(entry.redelivered for entry in again if entry.event == "begin")
    eventually(lambda: site.broker.unacked() == 0 and site.broker.waiting("celery") == 0)
    counts = site.record.counts()
    assert [counts[task_id] for task_id in ids[:concurrency]] == [2 if late else 1] * concurrency


@pytest.mark.parametrize("count", [1, 5])
def test_killed_pool_process(site, count):
    """kill -9 of a pool's process: the task runs again in another one, by the same worker."""
    site.worker("-Q", "celery", concurrency=2, **LATE)
    ids = [site.send("kill_process_once") for _ in range(count)]
    site.record.wait_for(ids, "end")
    for task_id in ids:
        # A process that dies before the pool has read that it took the task: then Celery's pool itself gives
        # it to another one, as the same delivery.
        *killed, again = (entry.redelivered for entry in site.record.of(task_id))
        assert again
        assert killed
        assert not any(killed)


def test_killed_parent_of_a_pool(site):
    """kill -9 of the worker's main process alone: what it held is run elsewhere."""
    victim = site.worker("-Q", "celery", worker_prefetch_multiplier=4, **LATE)
    running = site.send("sleep_at_first", 60)
    site.record.wait_for_one(running)
    waiting = [site.send("record") for _ in range(3)]
    site.worker("-Q", "celery", pool="threads", concurrency=4, **LATE)
    victim.send_signal(signal.SIGKILL)
    site.record.wait_for([running, *waiting])
    site.record.wait_for_one(running, "end")
    assert all(site.record.counts()[task_id] == 1 for task_id in waiting)


def test_restarted_worker_of_the_same_name(site):
    """A worker that is killed and started again under its name takes up its work at once."""
    victim = site.worker("-Q", "celery", worker_prefetch_multiplier=4, **LATE)
    running = site.send("sleep_at_first", 60)
    site.record.wait_for_one(running)
    waiting = [site.send("record") for _ in range(3)]
    victim.send_signal_to_all(signal.SIGKILL)
    victim.end()
    again = site.worker("-Q", "celery", "-n", victim.nodename, **LATE)
    site.record.wait_for([running], "end")
    site.record.wait_for(waiting)
    answer = site.control.ping(destination=[victim.nodename], timeout=10)
    assert answer == [{victim.nodename: {"ok": "pong"}}], again.tail()
