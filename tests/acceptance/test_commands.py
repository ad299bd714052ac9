"""Celery's own programs beside the worker: status, purge, events, Flower and beat."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.fixtures.waiting import eventually
from tests.fixtures.worker import celery_argv


@pytest.fixture(scope="module")
def shared(new_site):
    """One worker for those who only look at it."""
    site = new_site()
    return site, site.worker("-E", "-Q", "celery", pool="threads", concurrency=2)


def test_status(shared):
    """`celery status` lists the worker."""
    site, worker = shared
    output = site.run("status", "--timeout", "5")
    assert f"{worker.nodename}: OK" in output
    assert "1 node online." in output


def test_inspect(shared):
    """`celery inspect` reaches every worker, also without naming it."""
    site, worker = shared
    answer = json.loads(site.run("inspect", "--json", "--timeout", "5", "active_queues"))
    (queues,) = answer.values()
    assert list(answer) == [worker.nodename]
    assert [queue["name"] for queue in queues] == ["celery"]


def test_call(shared):
    """`celery call` publishes a task."""
    site, _ = shared
    task_id = site.run("call", "probe.record", "--args", '["called"]').strip().splitlines()[-1]
    assert site.record.wait_for_one(task_id).args == ["called"]


def test_events_dump(shared):
    """`celery events --dump` prints what happens to a task."""
    site, _ = shared
    dump = site.start("celery events", celery_argv("events", "--dump"))
    dump.wait_for_line("heartbeat")
    task_id = site.send("add", 1, 2)
    for event in ("received", "started", "succeeded"):
        dump.wait_for_line(rf"task {event}: .*{task_id}|{task_id}.*{event}")
    dump.end()


def test_flower(shared):
    """Flower's HTTP interface lists the worker, with its queues, and the tasks with their states."""
    site, worker = shared
    with tempfile.TemporaryDirectory(prefix="flower") as directory:
        address = Path(directory) / "http"
        argv = celery_argv("flower", f"--unix_socket={address}")
        flower = site.start("flower", ["env", "FLOWER_UNAUTHENTICATED_API=true", *argv])
        eventually(address.exists, 60, "Flower did not listen")
        transport = httpx.HTTPTransport(uds=str(address))
        with httpx.Client(transport=transport, base_url="http://flower", timeout=15) as client:

            def listed_workers() -> dict[str, Any]:
                return client.get("/api/workers", params={"refresh": 1}).json()

            def listed_queues() -> list[str]:
                # Flower waits a second for each kind of answer, and leaves out what did not come.
                listed = listed_workers().get(worker.nodename, {})
                return [queue["name"] for queue in listed.get("active_queues", ())]

            eventually(lambda: listed_queues() == ["celery"], 30, "Flower did not list the worker")
            task_id = site.send("add", 3, 4)

            def succeeded() -> bool:
                tasks = client.get("/api/tasks").json()
                return tasks.get(task_id, {}).get("state") == "SUCCESS"

            eventually(succeeded, 15, f"Flower did not see the end of {task_id}:\n{flower.tail(20)}")
            task = client.get(f"/api/task/info/{task_id}").json()
            assert (task["name"], task["worker"]) == ("probe.add", worker.nodename)
        flower.end()


@pytest.mark.ours("the passwords of the others are well-known words")
def test_password_is_not_shown(shared):
    """Neither the worker's banner and log nor `celery report` contain the password."""
    site, worker = shared
    password = urlsplit(site.broker.url).password
    if not password:
        pytest.skip("the URL has no password")
    assert password not in "\n".join(worker.lines)
    assert password not in site.run("report")


def test_purge(site):
    """`celery purge -f` empties the queues and says how many messages went."""
    for number in range(5):
        site.send("record", number)
    site.send("record", "left", queue="left")
    output = site.run("purge", "-f", "-Q", "celery,left")
    assert "Purged 6 messages" in output
    assert "No messages purged" in site.run("purge", "-f", "-Q", "celery,left")
    site.worker("-Q", "celery", pool="solo")
    marker = site.send("record", "marker")
    site.record.wait_for_one(marker)
    assert set(site.record.counts()) == {marker}


def test_beat(site, tmp_path):
    """Beat publishes once a second, and each of its messages is executed once."""
    schedule = {"tick": {"task": "probe.record", "schedule": 1.0, "args": ["tick"]}}
    site.worker("-Q", "celery", pool="solo")
    argv = celery_argv("beat", "-s", str(tmp_path / "schedule"), "-l", "INFO")
    began = time.monotonic()
    beat = site.start("beat", argv, beat_schedule=schedule)
    # Of each single one beat or the worker may be late, and the next is not; the first comes at once.
    entries = site.record.wait_until(lambda entries: len(entries) >= 6, 30, "sixth tick")
    assert 5 <= entries[5].monotonic - began < 20
    assert beat.stop() == 0
    beat.end()  # then all its lines are there
    sent = sum("Sending due task tick" in line for line in beat.lines)
    eventually(lambda: len(site.record.entries()) in (sent - 1, sent))  # it may have ended before the last


def test_worker_with_embedded_beat(site, tmp_path):
    """`celery worker -B` publishes and executes."""
    schedule = {"tick": {"task": "probe.record", "schedule": 1.0, "args": ["tick"]}}
    worker = site.worker("-Q", "celery", "-B", "-s", str(tmp_path / "schedule"), beat_schedule=schedule)
    site.record.wait_until(lambda entries: len(entries) >= 2, 20, "second tick")
    assert worker.stop() == 0


def test_plain_publisher_ends(site):
    """A program that publishes and ends leaves its message and nothing that keeps it alive."""
    code = "import probe; print(probe.record.delay('plain').id)"
    began = time.monotonic()
    publisher = site.start("publisher", [sys.executable, "-c", code])
    assert publisher.wait(20) == 0
    assert time.monotonic() - began < 15
    task_id = publisher.wait_for_line("-")
    site.worker("-Q", "celery", pool="solo")
    site.record.wait_for_one(task_id)
