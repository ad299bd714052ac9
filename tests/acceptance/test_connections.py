"""How many sessions of the server each process costs.

The figures are what the documentation promises; they are here and nowhere else in the tests.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import psycopg
import pytest

from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.ours("sessions of the database server")


@dataclass(frozen=True)
class Price:
    """Sessions for each process, at most."""

    worker: int = 5
    """Commands, claims, maintenance; the event dispatcher's; that of replies to remote control."""
    green_control: int = 2
    """In gevent and eventlet, Celery gives remote control a connection of its own, which consumes."""
    publishing_child: int = 1
    publisher: int = 1
    waiter: int = 1


PRICE = Price()

# Sends each task that is named by an argument, and stays until a line comes in.
PUBLISHER = """
import json, sys
import probe
for argument in sys.argv[1:]:
    name, *args = json.loads(argument)
    print("sent", probe.app.tasks["probe." + name].delay(*args).id, flush=True)
print("published", flush=True)
sys.stdin.readline()
"""


def sessions(site) -> list[str]:
    """What each session that others have in the database did last."""
    # Not by process id: the session of the look before this one may still be about to end.
    with psycopg.connect(site.broker.url, application_name="observer") as connection:
        rows = connection.execute(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND application_name <> 'observer'"
        )
        return [" ".join(query.split())[:100] for (query,) in rows]


def settles_at(site, most: int) -> None:
    """AssertionError if there are still more when those that only a start needs have had time to close."""
    found: list[str] = []

    def settled() -> bool:
        found[:] = sessions(site)
        return 1 <= len(found) <= most

    try:
        eventually(settled, 15)
    except AssertionError:
        raise AssertionError(f"{len(found)} sessions and not 1 to {most}: {found}") from None


def publish(site, *tasks: str):
    """Publish from a process of its own, which stays."""
    publisher = site.start("publisher", [sys.executable, "-c", PUBLISHER, *tasks])
    publisher.wait_for_line("^published")
    return publisher


def leave(publisher) -> None:
    publisher.write("\n")
    assert publisher.wait(20) == 0


def test_publisher(site):
    """A process that publishes has one session, however much it publishes."""
    publisher = publish(site, *['["record", 1]'] * 20)
    settles_at(site, PRICE.publisher)
    leave(publisher)
    eventually(lambda: not sessions(site))


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads", "gevent", "eventlet"])
def test_worker(site, pool):
    """A worker that executes, sends events and answers commands, and whose tasks do not publish."""
    concurrency = 1 if pool == "solo" else 4
    worker = site.worker("-E", "-Q", "celery", pool=pool, concurrency=concurrency, mingle=True)
    most = PRICE.worker + (PRICE.green_control if pool in ("gevent", "eventlet") else 0)
    settles_at(site, most)
    leave(publish(site, *['["record", 1]'] * 20))
    site.record.wait_until(lambda entries: len(entries) == 20, 15, "twentieth task")
    site.run("inspect", "stats")
    settles_at(site, most)
    assert worker.stop() == 0
    eventually(lambda: not sessions(site))


def test_publishing_children(site):
    """Each process of a prefork pool has one session more once its tasks publish."""
    worker = site.worker("-Q", "celery", concurrency=3)
    leave(publish(site, *['["sleep_for", 1]'] * 3))
    site.record.wait_until(lambda entries: len(entries) == 6, 15, "end of three tasks")
    settles_at(site, PRICE.worker)
    leave(publish(site, *['["relay", 20]'] * 6))
    entries = site.record.wait_until(lambda entries: len(entries) == 6 + 126, 30, "last relay")
    children = {entry.pid for entry in entries if entry.task == "probe.relay" and entry.note}
    assert len(children) == 3
    settles_at(site, PRICE.worker + 3 * PRICE.publishing_child)
    assert worker.stop() == 0
    eventually(lambda: not sessions(site))


def test_waiter(site):
    """A process that waits for results has one session for them beside the one for publishing."""
    pytest.importorskip("celery_postgres.backend", reason="the result backend is not there yet")
    code = (
        "import sys, probe; probe.app.conf.task_ignore_result = False;"
        "probe.add.ignore_result = False;"
        "results = [probe.add.delay(number, 1) for number in range(20)];"
        "print('sum', sum(result.get(timeout=30) for result in results), flush=True);"
        "sys.stdin.readline()"
    )
    backend = {"result_backend": site.broker.url, "task_ignore_result": False}
    site.worker("-Q", "celery", **backend)
    settles_at(site, PRICE.worker)
    waiter = site.start("waiter", [sys.executable, "-c", code], **backend)
    waiter.wait_for_line("^sum 210")
    settles_at(site, PRICE.worker + PRICE.publisher + PRICE.waiter + PRICE.publishing_child)
    leave(waiter)
