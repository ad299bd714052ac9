"""Through a pooler in transaction mode all of Celery works; with `session_dsn`, as fast as without one."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from celery import chord
from celery.result import AsyncResult

from .conftest import WAYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fixtures.pooler import Pooler
    from tests.fixtures.worker import Site

SAID = "is behind a transaction pooler: no notifications are heard"


def call(site: Site, *args: Any) -> Any:
    return site.client.send_task("probe.add", args).get(timeout=20)


@pytest.mark.parametrize("way", WAYS)
def test_everything_works(new_site: Callable[..., Site], database_url: str, way: str) -> None:
    """Tasks, results, chords, remote control, an ETA, and a warm shutdown.

    With `session_dsn` no poll comes in this time, so all that arrives was pushed.
    """
    site = new_site(way)
    worker = site.worker(concurrency=2)
    for number in range(5):
        assert call(site, number, 2) == number + 2
    client = site.client
    body = chord([client.signature("probe.add", args=(n, n)) for n in range(3)], app=client)(
        client.signature("probe.echo")
    )
    AsyncResult(body.id, app=client).get(timeout=20)
    later = site.send("record", countdown=1)
    assert site.command(worker, "ping") == {"ok": "pong"}
    site.record.wait_for_one(later)
    assert (SAID in "\n".join(worker.lines)) == (way == "the beat alone")
    running = site.send("sleep_for", 1)
    site.record.wait_for_one(running)
    assert worker.stop() == 0
    site.record.wait_for_one(running, "end")
    with psycopg.connect(database_url) as database:
        for table in ("message", "ready", "unacked"):
            assert database.execute(f"SELECT count(*) FROM celery.{table}".encode()).fetchone() == (0,)


def test_killed_worker_is_noticed_by_its_session(new_site: Callable[..., Site]) -> None:
    """With `session_dsn` what it held returns after the grace, long before a beat is missed."""
    late = {"task_acks_late": True, "broker_transport_options": {"grace": 1}}
    site = new_site("session_dsn", **late)
    victim = site.worker()
    ids = [site.send("sleep_on", victim.nodename, 120) for _ in range(4)]
    site.record.wait_for_one(ids[0])
    site.worker()
    victim.send_signal_to_all(signal.SIGKILL)
    site.record.wait_for(ids, "end", timeout_s=20)


@pytest.mark.long
def test_killed_worker_is_noticed_by_its_beat(new_site: Callable[..., Site]) -> None:
    """Without, after 30 s, and back within 36."""
    site = new_site("the beat alone", task_acks_late=True)
    victim = site.worker()
    ids = [site.send("sleep_on", victim.nodename, 120) for _ in range(4)]
    site.record.wait_for_one(ids[0])
    site.worker()
    victim.send_signal_to_all(signal.SIGKILL)
    killed = time.monotonic()
    site.record.wait_for(ids, "end", timeout_s=60)
    assert time.monotonic() - killed < 36


def test_orders_to_the_pooler(new_site: Callable[..., Site], pooler: Pooler) -> None:
    """It reads its configuration again, exchanges its sessions, stands still: tasks go on thereafter."""
    site = new_site("the beat alone")
    worker = site.worker()
    assert call(site, 1, 1) == 2
    for order in ("RELOAD", "RECONNECT"):
        pooler.order(order)
        assert call(site, 2, 2) == 4
    with ThreadPoolExecutor(1) as thread:
        pooler.order("PAUSE")
        called = thread.submit(call, site, 3, 3)
        pooler.wait_for_clients()
        pooler.order("RESUME")
        assert called.result(30) == 6
    assert call(site, 4, 4) == 8
    assert worker.alive


@pytest.mark.parametrize("way", WAYS)
def test_restart_of_the_pooler(new_site: Callable[..., Site], pooler: Pooler, way: str) -> None:
    """Claims are kept: what runs is not run again; publishers and workers find the pooler again."""
    site = new_site(way)
    worker = site.worker(task_acks_late=True)
    assert call(site, 1, 1) == 2
    running = site.send("sleep_for", 2)
    site.record.wait_for_one(running)
    pooler.stop()
    pooler.start()
    assert call(site, 2, 2) == 4
    site.record.wait_for_one(running, "end")
    assert call(site, 3, 3) == 6
    assert site.record.counts()[running] == 1
    assert worker.stop() == 0
