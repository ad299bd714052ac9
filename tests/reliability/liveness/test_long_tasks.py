"""Tasks that take long, or wait long for their time: nobody else is given them meanwhile."""

from __future__ import annotations

import signal
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from .conftest import Watched

POOLS = ("prefork", "solo", "threads", "gevent")
TEN_MINUTES = 600


@pytest.mark.long
def test_task_of_ten_minutes(site: Watched) -> None:
    """In each pool, with late acknowledgement and beside a worker that has nothing to do: it runs once."""
    tasks = {}
    for pool in POOLS:
        worker = site.worker("-Q", pool, pool=pool)
        tasks[site.send("sleep_on", worker.nodename, TEN_MINUTES, queue=pool)] = worker.nodename
    site.record.wait_for(tasks)
    idle = site.worker("-Q", ",".join(POOLS))
    ends = site.record.wait_for(tasks, "end", timeout_s=TEN_MINUTES + 60)
    eventually(lambda: site.broker.unacked() == 0)
    assert {end.id: end.hostname for end in ends} == tasks
    assert set(site.record.counts().values()) == {1}
    assert not any("is gone" in line for line in idle.lines)


def test_eta_an_hour_ahead(site: Watched) -> None:
    """It waits in the database, also while workers come and go, and runs once when its time has come.

    The hour is shortened there, in its rows.
    """
    now = datetime.now(timezone.utc)
    eta = now + timedelta(hours=1)
    first = site.worker("-Q", "celery")
    task = site.send("record", eta=eta)
    site.record.wait_for_one(site.send("record"))
    first.send_signal_to_all(signal.SIGKILL)
    second, _ = site.worker("-Q", "celery"), site.worker("-Q", "celery")
    assert site.query("SELECT count(*) FROM celery.delayed") == [(1,)]
    with psycopg.connect(site.broker.url, autocommit=True) as connection:
        told = (eta.isoformat(), now.isoformat())
        connection.execute("UPDATE celery.message SET headers = replace(headers, %s, %s)", told)
        connection.execute("UPDATE celery.delayed SET due_at = due_at - interval '1 h'")
    site.record.wait_for_one(task)
    eventually(lambda: site.query("SELECT count(*) FROM celery.message") == [(0,)])
    second.stop()
    assert site.record.counts()[task] == 1
