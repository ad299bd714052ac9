"""Workers that do not do their part are found, and so is what nobody looks after."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

from kombu import Connection

from celery_postgres.doctor import OK, PROBLEM, WARNING
from tests.fixtures.broker import Broker
from tests.fixtures.record import Record
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import Site

if TYPE_CHECKING:
    from pathlib import Path as Folder

    from .conftest import Doctor


def test_stopped_worker(doctor: Doctor, tmp_path: Folder) -> None:
    """Stopped, it keeps its session and claims nothing: found at first by its queue, then by its beat."""
    site = Site(Broker(doctor.url), Record(tmp_path / "record"), {})
    try:
        worker = site.worker("-Q", "celery", pool="solo")
        site.record.wait_for_one(site.send("record"))
        eventually(lambda: doctor.admin.stored()["unacked"] == 0)
        assert [f.severity for f in doctor.findings("workers")] == [OK]
        worker.send_signal(signal.SIGSTOP)
        site.send("record")
        doctor.admin.run("UPDATE celery.message SET enqueued_at = now() - interval '20 s'")
        found = doctor.finding("workers", f"process {worker.pid} on ")
        assert found.severity == WARNING
        assert "claims nothing, while 1 messages wait in its queue 'celery'" in found.said
        doctor.admin.run("UPDATE celery.consumer SET beat_at = now() - interval '50 s'")
        found = doctor.finding("workers", f"process {worker.pid} on ")
        assert found.severity == PROBLEM
        assert re.search(r"has not beaten for \d+ s", found.said)
        worker.send_signal(signal.SIGCONT)
    finally:
        site.close()


def test_worker_that_is_gone(doctor: Doctor, tmp_path: Folder) -> None:
    """Killed, with nobody else to give back what it held."""
    site = Site(Broker(doctor.url), Record(tmp_path / "record"), {})
    try:
        worker = site.worker("-Q", "celery", pool="solo", task_acks_late=True)
        site.record.wait_for_one(site.send("sleep_for", 60))
        worker.send_signal_to_all(signal.SIGKILL)
        doctor.admin.run("UPDATE celery.consumer SET beat_at = now() - interval '50 s'")
        eventually(lambda: any("is gone" in f.said for f in doctor.findings("workers")))
        found = doctor.finding("workers", "and nobody has given back the 1 messages")
        assert (found.severity, found.figures["pid"]) == (PROBLEM, worker.pid)
    finally:
        site.close()


def test_orphans(doctor: Doctor) -> None:
    """Claimed by a consumer that does not exist any more, and no worker to sweep."""
    doctor.publish()
    doctor.admin.run(
        "WITH gone AS (DELETE FROM celery.ready RETURNING *) INSERT INTO celery.unacked SELECT"
        " gen_random_uuid(), message_id, queue_id, priority, 1, now() - interval '1 min' FROM gone"
    )
    found = doctor.finding("workers", "1 messages are claimed by consumers that do not exist")
    assert found.severity == PROBLEM


def test_queue_without_consumer(doctor: Doctor) -> None:
    doctor.publish(count=3)
    assert doctor.findings("workers")[0].severity == OK
    found = doctor.finding("workers", "queue 'celery' has 3 messages", patience_s=0)
    assert found.severity == WARNING


def test_dead_letters(doctor: Doctor) -> None:
    doctor.publish()
    with Connection(doctor.url, transport_options={"keep_rejected": True}) as connection:
        connection.SimpleQueue("celery").get(timeout=10).reject()
        eventually(lambda: doctor.admin.stored()["dead_letter"] == 1)
    assert doctor.finding("dead letters", "1 with the reason 'rejected'").severity == WARNING
