"""What the documents say about workers, where no other test shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from celery import chord

from tests.acceptance.apps.probe import digest
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from tests.fixtures.worker import Site

LATE = {"task_acks_late": True, "task_reject_on_worker_lost": True}


@pytest.mark.parametrize("settings", [{}, LATE], ids=["early acknowledgement", "late acknowledgement"])
def test_lost_sessions_of_a_worker(site: Site, settings: dict[str, Any]) -> None:
    """The running task goes on, and with late acknowledgement runs again; what waited runs once."""
    worker = site.worker("-Q", "celery", worker_prefetch_multiplier=4, **settings)
    running = site.send("sleep_at_first", 7)
    site.record.wait_for_one(running)
    waiting = [site.send("record") for _ in range(2)]
    eventually(lambda: site.broker.unacked() == (3 if settings else 2))
    with psycopg.connect(site.broker.url, autocommit=True) as database:
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    site.record.wait_for_one(running, "end")
    if settings:
        worker.wait_for_line("cannot be settled, the session that claimed it is lost", 10)
    site.record.wait_for(waiting)
    eventually(lambda: site.broker.unacked() == 0)
    assert [entry.redelivered for entry in site.record.of(running)] == (
        [False, True] if settings else [False]
    )
    assert all(site.record.counts()[task_id] == 1 for task_id in waiting)


def test_chord_with_a_backend_of_celery(site: Site) -> None:
    """Results and chords work with a result backend of Celery's, such as its own for databases."""
    backend = f"db+postgresql+psycopg://{site.broker.url.partition('://')[2]}"
    settings = {"result_backend": backend, "task_ignore_result": False}
    site.client.conf.update(settings)
    site.worker("-Q", "celery", **settings)
    header = [site.client.signature("probe.add", args=(n, n)) for n in (1, 2)]
    body = site.client.signature("probe.echo")
    result = chord(header, app=site.client)(body)
    entry = site.record.wait_for_one(result.id)
    assert entry.note in (digest([2, 4]), digest([4, 2]))
