"""What a worker does with tasks and commands, in every pool that Celery has.

One worker for each pool serves all checks of this module: one process of the pool, a prefetch window of one.
"""

from __future__ import annotations

import itertools
import random
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from celery import chain, group, uuid

from tests.acceptance.apps.probe import digest
from tests.fixtures.waiting import PATIENCE_S, eventually
from tests.fixtures.worker import POOLS, Site, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Pool(NamedTuple):
    """A ready worker and where to reach it."""

    name: str
    site: Site
    worker: Worker

    def settle(self, queue: str = "celery") -> None:
        """Return when everything published to the queue before has been handled."""
        marker = self.site.send("record", "marker", queue=queue)
        self.site.record.wait_for_one(marker)

    def consume(self, queue: str) -> None:
        """Return when the worker consumes the queue; the reply to the command comes earlier."""
        self.site.command(self.worker, "add_consumer", queue=queue)
        eventually(lambda: queue in self.queues())

    def cancel(self, queue: str) -> None:
        """Return when the worker no longer consumes the queue."""
        self.site.command(self.worker, "cancel_consumer", queue=queue)
        eventually(lambda: queue not in self.queues())

    def queues(self) -> set[str]:
        """What the worker says that it consumes."""
        answer = self.site.inspect(self.worker).active_queues()[self.worker.nodename]
        return {queue["name"] for queue in answer}

    def processes(self) -> list[int]:
        """The processes of the pool."""
        stats = self.site.inspect(self.worker).stats()[self.worker.nodename]
        processes: list[int] = stats["pool"]["processes"]
        return processes

    def signature(self, task: str, *args: Any) -> Any:
        return self.site.client.signature(f"probe.{task}", args=args, immutable=True)


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest, new_site: Callable[..., Site]) -> Iterator[Pool]:
    site = new_site(worker_prefetch_multiplier=1)
    worker = site.worker("-E", "-Q", "celery,left,right", pool=request.param)
    # Celery's green pools declare the queue of remote control in a greenlet, which may come behind "ready":
    # what is told before that is told to nobody.
    eventually(site.control.inspect(destination=[worker.nodename], timeout=1).ping)
    yield Pool(request.param, site, worker)
    worker.end()


def needs_answers_during_a_task(pool: Pool) -> None:
    if pool.name == "solo":
        pytest.skip("a solo worker answers between its tasks only")


@pytest.mark.smoke
class TestTasks:
    """Tasks run once, when they should."""

    def test_task_runs_once(self, pool):
        """A published task is executed, with its arguments."""
        task_id = pool.site.send("add", 2, 3)
        entry = pool.site.record.wait_for_one(task_id)
        assert (entry.args, entry.note, entry.redelivered) == ([2, 3], 5, False)
        pool.settle()
        assert pool.site.record.counts()[task_id] == 1

    def test_payload_arrives(self, pool):
        """Text of every kind, deep and long."""
        payload = {"text": "grün ☃ 𐍈 \x00 '\" \\", "deep": [[[[{"a": None}]]]], "long": "x" * 300_000}
        entry = pool.site.record.wait_for_one(pool.site.send("echo", payload))
        assert entry.note == digest(payload)

    def test_failing_task_does_no_harm(self, pool):
        """It runs once, and the next one runs."""
        task_id = pool.site.send("fail")
        pool.site.record.wait_for_one(task_id)
        pool.settle()
        assert pool.site.record.counts()[task_id] == 1

    def test_task_publishes_tasks(self, pool):
        """From inside the pool, several times in a row."""
        entry = pool.site.record.wait_for_one(pool.site.send("relay", 3))
        for _ in range(3):
            entry = pool.site.record.wait_for_one(entry.note)
        assert entry.args == [0]

    @pytest.mark.parametrize("countdown", [0, 0.3])
    def test_retries(self, pool, countdown):
        """A task that retries twice runs three times, each after its countdown."""
        task_id = pool.site.send("retry_twice", countdown)
        pool.site.record.wait_for_one(task_id, "end")
        begins = pool.site.record.of(task_id)
        assert [entry.retries for entry in begins] == [0, 1, 2]
        gaps = [later.monotonic - earlier.monotonic for earlier, later in itertools.pairwise(begins)]
        assert min(gaps) >= countdown - 0.01
        assert max(gaps) < countdown + 5

    def test_eta(self, pool):
        """A task with a countdown of two seconds runs then: not before, and not much later."""
        published = time.monotonic()
        task_id = pool.site.send("record", countdown=2)
        pool.settle()
        entry = pool.site.record.wait_for_one(task_id)
        assert 2 - 0.01 <= entry.monotonic - published < 7
        pool.settle()
        assert pool.site.record.counts()[task_id] == 1

    def test_expired_task_does_not_run(self, pool):
        """A task whose time is over is not executed; ours reaches the worker, which marks it revoked."""
        expired = pool.site.send("record", "expired", queue="urgency", expires=0.2)
        alive = pool.site.send("record", "alive", queue="urgency", expires=60)
        time.sleep(0.3)
        pool.consume("urgency")
        pool.site.record.wait_for_one(alive)
        if pool.site.broker.ours:
            pool.worker.wait_for_line(rf"Discarding revoked task: .*{expired}")
        pool.cancel("urgency")
        assert pool.site.record.of(expired) == []

    def test_priorities(self, pool):
        """What waits is executed by priority, the oldest first among equals."""
        priorities = [0, 3, 6, 9] * 3
        random.Random(pool.name).shuffle(priorities)
        ids = [pool.site.send("record", queue="urgency", priority=priority) for priority in priorities]
        pool.consume("urgency")
        entries = pool.site.record.wait_for(ids)
        pool.cancel("urgency")
        sign = -1 if pool.site.broker.highest_priority_first else 1
        expected = sorted(range(12), key=lambda number: (sign * priorities[number], number))
        assert [entry.id for entry in entries] == [ids[number] for number in expected]
        assert [entry.priority for entry in entries] == [priorities[number] for number in expected]

    def test_queues_are_routed(self, pool):
        """A task goes to the queue of its route, by exchange and routing key."""
        left, right = pool.site.send("left"), pool.site.send("right")
        assert pool.site.record.wait_for_one(left).note == "side.left"
        assert pool.site.record.wait_for_one(right).note == "side.right"

    def test_chain(self, pool):
        """Each link is published by the one before."""
        links = [pool.signature("record", letter) for letter in "abc"]
        last = chain(*links).apply_async()
        pool.site.record.wait_for_one(last.id)
        ids = [last.parent.parent.id, last.parent.id, last.id]
        entries = pool.site.record.wait_for(ids)
        assert [entry.args for entry in entries] == [["a"], ["b"], ["c"]]

    def test_group(self, pool):
        """All members run, once each."""
        members = group(pool.signature("record", number) for number in range(10)).apply_async()
        ids = [member.id for member in members.results]
        entries = pool.site.record.wait_for(ids)
        assert sorted(entry.args[0] for entry in entries) == list(range(10))


class TestSettling:
    """Late acknowledgement, reject and requeue."""

    def test_requeued_task_runs_again(self, pool):
        """`Reject(requeue=True)`: the second delivery says that it is one."""
        task_id = pool.site.send("reject_once")
        pool.site.record.wait_for_one(task_id, "end")
        assert [entry.redelivered for entry in pool.site.record.of(task_id)] == [False, True]

    def test_rejected_task_is_gone(self, pool):
        """`Reject(requeue=False)`: it ran once and is not there any more."""
        task_id = pool.site.send("reject")
        pool.site.record.wait_for_one(task_id)
        pool.settle()
        assert pool.site.record.counts()[task_id] == 1

    def test_late_acknowledgement(self, pool):
        """A task with `acks_late` is acknowledged after its end: nothing is left behind."""
        task_id = pool.site.send("reject_once")
        pool.site.record.wait_for_one(task_id, "end")
        pool.settle()
        eventually(lambda: pool.site.broker.unacked() == 0)


class TestCommands:
    """Remote control."""

    def test_ping(self, pool):
        """The worker answers."""
        assert pool.site.inspect(pool.worker).ping() == {pool.worker.nodename: {"ok": "pong"}}

    def test_answers_quickly(self, pool):
        """Within half a second: Celery's own tools wait one second."""
        took = []
        for _ in range(5):
            began = time.monotonic()
            assert pool.site.inspect(pool.worker).ping()
            took.append(time.monotonic() - began)
        assert min(took) < 0.5

    def test_stats(self, pool):
        """They name the process, the broker and what was done."""
        pool.settle()

        def stats() -> dict[str, Any]:
            found: dict[str, Any] = pool.site.inspect(pool.worker).stats()[pool.worker.nodename]
            return found

        assert stats()["pid"] == pool.worker.pid
        assert stats()["broker"]["transport"]
        # A pool tells of a beginning behind it.
        eventually(lambda: stats()["total"].get("probe.record", 0) >= 1)

    def test_registered(self, pool):
        """The worker knows the tasks of the application."""
        registered = pool.site.inspect(pool.worker).registered()[pool.worker.nodename]
        assert {"probe.add", "probe.record"} <= set(registered)

    def test_active_queues(self, pool):
        """The worker says what it consumes."""
        assert pool.queues() == {"celery", "left", "right"}

    def test_active(self, pool, tmp_path):
        """A running task is listed."""
        needs_answers_during_a_task(pool)
        task_id = pool.site.send("hold", str(tmp_path / "go"))
        pool.site.record.wait_for_one(task_id)

        def active() -> list[str]:
            return [task["id"] for task in pool.site.inspect(pool.worker).active()[pool.worker.nodename]]

        eventually(lambda: active() == [task_id])  # a pool tells of beginnings and ends behind them
        (tmp_path / "go").touch()
        pool.site.record.wait_for_one(task_id, "end")

    def test_scheduled(self, pool):
        """A task with an ETA is named, whether it waits in our database or in a worker's memory."""
        task_id = pool.site.send("record", countdown=3600)
        pool.settle()
        scheduled = pool.site.inspect(pool.worker).scheduled()[pool.worker.nodename]
        (request,) = [task["request"] for task in scheduled if task["request"]["id"] == task_id]
        assert request["name"].endswith("record")
        assert request["kwargs"] == {}
        assert request["delivery_info"]["redelivered"] is False
        pool.site.command(pool.worker, "revoke", task_id=task_id)

    def test_revoked_task_does_not_run(self, pool):
        """Revoked before the worker has seen it."""
        task_id = uuid()
        pool.site.command(pool.worker, "revoke", task_id=task_id)
        pool.site.send("record", task_id=task_id)
        pool.settle()
        assert pool.site.record.of(task_id) == []

    def test_revoked_while_it_waits(self, pool, tmp_path):
        """Revoked behind a running task."""
        if pool.name != "prefork":
            pytest.skip("only prefork asks again before it runs what has waited in the worker")
        busy = pool.site.send("hold", str(tmp_path / "go"))
        pool.site.record.wait_for_one(busy)
        task_id = pool.site.send("record")
        pool.site.command(pool.worker, "revoke", task_id=task_id)
        (tmp_path / "go").touch()
        pool.settle()
        assert pool.site.record.of(task_id) == []

    def test_revoked_before_its_eta(self, pool):
        """A task that waits for its time can be revoked."""
        for countdown in (2, 10, 30):
            published = time.monotonic()
            task_id = pool.site.send("record", countdown=countdown)
            pool.site.command(pool.worker, "revoke", task_id=task_id)
            if time.monotonic() - published < countdown:  # else it was not before its time
                break
        later = pool.site.send("record", countdown=countdown + 0.3)
        pool.site.record.wait_for_one(later)
        pool.settle()
        assert pool.site.record.of(task_id) == []

    def test_revoked_with_terminate(self, pool):
        """The process of a running task is killed, and the worker goes on."""
        if pool.name != "prefork":
            pytest.skip("only prefork has processes to terminate")
        task_id = pool.site.send("sleep_for", 60)
        pool.site.record.wait_for_one(task_id)
        pool.site.command(pool.worker, "revoke", task_id=task_id, terminate=True, signal="SIGKILL")
        pool.settle()
        assert pool.site.record.of(task_id, "end") == []

    def test_rate_limit(self, pool):
        """Set and taken back while the worker runs."""
        pool.site.command(pool.worker, "rate_limit", task_name="probe.record", rate_limit="5/s")
        began = time.monotonic()
        ids = [pool.site.send("record") for _ in range(5)]
        entries = pool.site.record.wait_for(ids)
        pool.site.command(pool.worker, "rate_limit", task_name="probe.record", rate_limit=0)
        # Four tokens of 0.2 s; the first task may begin so late that it and the next begin together.
        assert entries[-1].monotonic - began > 0.7
        assert [entry.id for entry in entries] == ids
        pool.settle()

    def test_add_and_cancel_consumer(self, pool):
        """A queue is served from the one command to the other, and keeps what comes later."""
        early = pool.site.send("record", queue="urgency")
        pool.settle()
        assert pool.site.record.of(early) == []
        pool.consume("urgency")
        pool.site.record.wait_for_one(early)
        pool.settle("urgency")
        pool.cancel("urgency")
        late = pool.site.send("record", queue="urgency")
        pool.settle()
        assert pool.site.record.of(late) == []
        assert pool.site.broker.waiting("urgency") == 1
        pool.consume("urgency")
        pool.site.record.wait_for_one(late)
        pool.cancel("urgency")

    def test_grow_and_shrink(self, pool, tmp_path):
        """The pool gets another process, which works, and loses it again."""
        if pool.name != "prefork":
            pytest.skip("only prefork has processes to count")
        pool.site.command(pool.worker, "pool_grow", n=1)
        eventually(lambda: len(pool.processes()) == 2)
        processes = pool.processes()
        ids = [pool.site.send("hold", str(tmp_path / "go")) for _ in range(2)]
        entries = pool.site.record.wait_for(ids)
        assert {entry.pid for entry in entries} == set(processes)
        (tmp_path / "go").touch()
        pool.site.record.wait_for(ids, "end")
        pool.site.command(pool.worker, "pool_shrink", n=1)
        eventually(lambda: len(pool.processes()) == 1)
        pool.settle()


def test_events(pool):
    """A receiver hears the whole life of a task, and the worker's heartbeat when it asks for one."""
    heard: list[dict[str, Any]] = []
    grown = threading.Condition()

    def on_event(event: dict[str, Any]) -> None:
        with grown:
            heard.append(event)
            grown.notify_all()

    def wait_for(event_type: str, task_id: str | None = None) -> None:
        def arrived() -> bool:
            return any(event["type"] == event_type and event.get("uuid") == task_id for event in heard)

        with grown:
            assert grown.wait_for(arrived, timeout=PATIENCE_S), (event_type, heard)

    with pool.site.client.connection_for_read() as connection:
        receiver = pool.site.client.events.Receiver(connection, handlers={"*": on_event})
        thread = threading.Thread(
            target=receiver.capture, kwargs={"limit": None, "timeout": None}, daemon=True
        )
        thread.start()
        wait_for("worker-heartbeat")
        task_id = pool.site.send("add", 1, 1)
        wait_for("task-succeeded", task_id)
        receiver.should_stop = True
        thread.join(10)
        assert not thread.is_alive()
    own = [event["type"] for event in heard if event.get("uuid") == task_id]
    assert set(own) >= {"task-received", "task-started", "task-succeeded"}


def test_shutdown(pool):
    """The command ends the worker in good order, and nothing is left unacknowledged."""
    pool.site.control.shutdown(destination=[pool.worker.nodename])
    assert pool.worker.wait(20) == 0
    assert pool.site.broker.unacked() == 0


def test_solo_worker_goes_from_task_to_task(site):
    """What it has prefetched is not left waiting, although the loop goes round between two tasks."""
    site.worker("-Q", "celery", pool="solo", worker_prefetch_multiplier=16)
    with site.client.connection_for_write() as connection:
        producer = connection.Producer()
        with producer.batch():
            ids = [site.send("sleep_for", 0.03, producer=producer) for _ in range(14)]
    entries = site.record.wait_for(ids)
    pauses = [b.monotonic - a.monotonic for a, b in itertools.pairwise(entries)]
    assert statistics.median(pauses) < 0.3, pauses
