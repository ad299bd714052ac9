"""What a worker tells its monitors with `-E`: gathered, and nothing left out."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from celery.signals import heartbeat_sent
from celery.worker.heartbeat import Heart

from celery_postgres.errors import DatabaseUnavailable, MessageTooLarge
from celery_postgres.worker import events
from celery_postgres.worker.events import Teller
from tests.fixtures.waiting import PATIENCE_S, eventually
from tests.fixtures.worker import POOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.worker import Site

TASKS = 200
#: What a worker tells of each; its sender may tell that it was sent.
KINDS = ("task-received", "task-started", "task-succeeded")


class Monitor:
    """Hears every event, and counts the messages that bring those of tasks."""

    def __init__(self, site: Site) -> None:
        self.messages = 0
        self.events: list[dict[str, Any]] = []
        self._grown = threading.Condition()
        self._connection = site.client.connection_for_read()
        receiver = site.client.events.Receiver(self._connection)
        receiver.event_from_message = lambda event: (event["type"], event)
        receiver.process = self._on_event
        inside = receiver._receive

        def receive(body: Any, message: Any) -> None:
            self.messages += isinstance(body, list) or body["type"] in KINDS
            inside(body, message)

        receiver._receive = receive
        self._receiver = receiver
        self._thread = threading.Thread(target=self._capture, daemon=True)

    def _capture(self) -> None:
        self._receiver.capture(limit=None, timeout=None, wakeup=True)

    def _on_event(self, kind: str, event: dict[str, Any]) -> None:
        with self._grown:
            self.events.append(event)
            self._grown.notify_all()

    def told(self, kind: str) -> list[str]:
        """The tasks of which this has been told, in the order in which it was."""
        return [event["uuid"] for event in self.events if event["type"] == kind]

    def wait_for(self, kind: str, ids: list[str], timeout_s: float = PATIENCE_S) -> None:
        with self._grown:
            assert self._grown.wait_for(lambda: set(ids) <= set(self.told(kind)), timeout_s), kind

    def wait_until_heard(self) -> None:
        with self._grown:
            arrived = self._grown.wait_for(
                lambda: any("worker" in e["type"] for e in self.events), PATIENCE_S
            )
            assert arrived, "no heartbeat"

    def __enter__(self) -> Monitor:
        self._thread.start()
        self.wait_until_heard()
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.should_stop = True
        self._thread.join(10)
        self._connection.release()


@contextmanager
def watched(site: Site, pool: str) -> Iterator[tuple[Any, Monitor]]:
    worker = site.worker("-E", pool=pool, concurrency=2)
    with Monitor(site) as monitor:
        yield worker, monitor


@pytest.mark.parametrize("pool", POOLS)
def test_events_of_many_tasks_share_messages(site, pool):
    """Each of three events per task is told once, and most of them travel together."""
    with watched(site, pool) as (_worker, monitor):
        with site.client.connection_for_write() as connection:
            producer = connection.Producer()
            with producer.batch():
                ids = [site.send("add", 1, 1, producer=producer) for _ in range(TASKS)]
        for kind in KINDS:
            monitor.wait_for(kind, ids)
            assert sorted(monitor.told(kind)) == sorted(ids)
    assert monitor.messages < TASKS, "Celery's own loop sends one for each step, 2 to 3 a task"


@pytest.mark.parametrize("pool", POOLS)
def test_an_event_leaves_although_nothing_else_happens(site, pool):
    """One task in an idle worker: its last event is not left until something else wakes the loop."""
    with watched(site, pool) as (_worker, monitor):
        for _ in range(3):
            task_id = site.send("add", 1, 1)
            monitor.wait_for("task-succeeded", [task_id], timeout_s=20)


@pytest.mark.parametrize("pool", POOLS)
def test_the_last_events_are_told_by_a_worker_that_ends(site, pool, tmp_path):
    """Warm shutdown: the task that was running is told to have succeeded, behind the loop's end."""
    with watched(site, pool) as (worker, monitor):
        task_id = site.send("hold", str(tmp_path / "go"))
        site.record.wait_for_one(task_id)
        if pool != "solo":  # which tells between its tasks
            monitor.wait_for("task-started", [task_id])
        worker.send_signal(signal.SIGTERM)
        worker.wait_for_line("Warm shutdown")
        (tmp_path / "go").touch()
        assert worker.wait(30) == 0
        monitor.wait_for("task-succeeded", [task_id])


def test_events_are_told_behind_a_lost_session(site):
    """The sessions end while events gather: what happens to the next task is told again."""
    with watched(site, "prefork") as (_worker, monitor):
        for _ in range(3):
            ids = [site.send("add", 1, 1) for _ in range(20)]
            end_sessions(site.broker.url)
            site.record.wait_for(ids)
            task_id = site.send("add", 1, 1)
            monitor.wait_for("task-succeeded", [task_id])


def test_events_that_cannot_be_stored_do_not_hold_up_the_loop(site):
    """While nobody may write to the log, tasks begin as ever; what happened to them is told afterwards."""
    with watched(site, "prefork") as (_worker, monitor), psycopg.connect(site.broker.url) as connection:
        ids = [site.send("sleep_for", 0.3) for _ in range(20)]
        site.record.wait_for(ids[:1])
        connection.execute("LOCK TABLE celery.broadcast IN SHARE MODE")
        begin = time.monotonic()
        site.record.wait_for(ids, timeout_s=60)
        assert time.monotonic() - begin < 15, "heartbeats and events wait for the lock, and the loop for them"
        site.record.wait_for(ids, "end")
        time.sleep(1.5)  # what happened last has been refused by now, and no other task will come
        connection.rollback()
        monitor.wait_for("task-succeeded", ids)


class Refusing:
    """A producer whose broker has no room, or never will."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def publish(self, *_: Any, **__: Any) -> None:
        self.asked += 1
        raise self.error


def test_refused_event_is_kept_and_not_offered_at_once() -> None:
    """Celery offers all that it has kept with each further event: only the first of them asks the server."""
    producer = Refusing(DatabaseUnavailable("away"))
    teller = Teller(producer)
    for _ in range(1000):
        with pytest.raises(DatabaseUnavailable):
            teller.publish({"type": "task-sent"})
    assert producer.asked == 1


def test_event_that_is_too_large_is_not_kept_for_ever(caplog) -> None:
    """No repetition helps: it is left out, and the log says so."""
    Teller(Refusing(MessageTooLarge("300 MiB"))).publish([{"type": "task-failed"}] * 3)
    assert "3 events are not told: 300 MiB" in caplog.text


def test_heartbeats_for_which_nobody_listens(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of them are left out until somebody does, and whoever watches the worker by a signal sees them."""
    monkeypatch.setattr(events, "UNHEARD", 60.0)
    signals: list[Any] = []

    def on_heartbeat(sender: Any, **_: Any) -> None:
        signals.append(sender)

    heartbeat_sent.connect(on_heartbeat)
    try:
        with site.client.connection_for_write() as connection:
            dispatcher = site.client.events.Dispatcher(connection)
            teller = dispatcher.producer = Teller(dispatcher.producer)
            heart = Heart(None, dispatcher)
            for number in range(5):
                heart._send(events.HEARTBEAT)
                assert teller.nobody_listens
                assert len(signals) == number + 1
            channel = connection.default_channel
            channel.queue_declare("monitor", exclusive=True)
            channel.queue_bind("monitor", dispatcher.exchange.name, "#")
            heart._send(events.HEARTBEAT)
            assert channel.basic_get("monitor") is None
            teller._unheard_until = 0.0
            for _ in range(5):
                heart._send(events.HEARTBEAT)
                assert channel.basic_get("monitor") is not None
    finally:
        heartbeat_sent.disconnect(on_heartbeat)


def test_monitor_that_begins_hears_a_worker_at_once(site: Site) -> None:
    """It asks for a heartbeat, however long nobody has listened, and gets them all from then on."""
    worker = site.worker("-Q", "celery", pool="solo")
    site.record.wait_for_one(site.send("record"))
    begun = time.time()

    def heartbeats() -> list[float]:
        return [event["timestamp"] for event in monitor.events if event["type"] == events.HEARTBEAT]

    with Monitor(site) as monitor:
        eventually(lambda: len(heartbeats()) >= 4, 20)
        assert heartbeats()[0] - begun < 6
        assert heartbeats()[3] - heartbeats()[0] < 15
        assert {event["hostname"] for event in monitor.events} == {worker.nodename}


def end_sessions(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
