"""Claims while a look from the beginning takes long: nothing is overlooked, and little is read in vain."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kombu import Connection, Queue

import celery_postgres  # noqa: F401  registers the schemes
from celery_postgres import lanes
from celery_postgres.lanes import Lanes
from tests.transport.inbox import Inbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kombu.transport.virtual import Channel

FOR_EVER = 3600.0

DEAD = 100_000


@pytest.fixture
def channel(database_url: str) -> Iterator[Channel]:
    with Connection(database_url) as connection:
        yield connection.channel()


@pytest.fixture
def observer(channel: Channel, database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Another session of the same database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def queue(channel: Channel) -> Queue:
    return declared(channel, "one")


@pytest.fixture
def long_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look from the beginning is long, and there is one each second; lanes begin at their newest."""
    monkeypatch.setattr(lanes, "LONG_LOOK", -1.0)
    monkeypatch.setattr(lanes, "_LOOKS", 1)
    monkeypatch.setattr(lanes, "_PAUSE", 1e9)
    monkeypatch.setattr(lanes, "_LONGEST_PAUSE", 1.0)
    monkeypatch.setattr(lanes, "_LATE", 0.0)


@pytest.fixture
def last_look(long_looks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no other one after the first that finds something."""
    monkeypatch.setattr(lanes, "_LONGEST_PAUSE", FOR_EVER)


class Looks:
    """Where the claims of this process begin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.whole: list[bool] = []
        """Of each look, whether it began at the beginning."""
        original = Lanes.look_behind

        def look_behind(lanes: Lanes) -> bool:
            behind = original(lanes)
            self.whole.append(not behind)
            return behind

        monkeypatch.setattr(Lanes, "look_behind", look_behind)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


def declared(channel: Channel, name: str) -> Queue:
    queue = Queue(name, routing_key=name)(channel)
    queue.declare()
    return queue


def publish(queue: Queue, *bodies: str, priority: int = 0) -> None:
    channel = queue.channel
    for body in bodies:
        message = channel.prepare_message(body, priority, "text/plain", "utf-8", {}, {})
        channel.basic_publish(message, exchange="", routing_key=queue.name)


def pass_by(inbox: Inbox, queue: Queue) -> None:
    """Lanes begin behind what was published before."""
    for body in "abcd":
        publish(queue, body)
        assert inbox.take_bodies(1) == [body]


@pytest.mark.usefixtures("last_look")
class TestFromBehind:
    """What comes as usual is claimed at once, however rare the looks from the beginning are."""

    def test_next_messages(self, queue, channel):
        """In their order."""
        with Inbox(channel, queue) as inbox:
            pass_by(inbox, queue)
            publish(queue, *"0123456789")
            assert inbox.take_bodies(10) == list("0123456789")

    def test_priorities(self, queue, channel):
        """The highest first, of those that have come before."""
        for priority in (0, 3, 9):
            publish(queue, str(priority), priority=priority)
        with Inbox(channel, queue, prefetch_count=3) as inbox:
            assert inbox.take_bodies(3) == ["9", "3", "0"]
            inbox.consumer.qos(prefetch_count=1)
            publish(queue, "running")
            (running,) = inbox.take(1)
            for priority in (0, 9, 3):
                publish(queue, str(priority), priority=priority)
            running.ack()
            assert inbox.take_bodies(3) == ["9", "3", "0"]

    def test_queue_that_was_empty_until_now(self, queue, channel):
        """Also of a queue from which nothing came yet."""
        other = declared(channel, "two")
        with Inbox(channel, queue, other) as inbox:
            pass_by(inbox, queue)
            publish(other, "first")
            assert inbox.take_bodies(1) == ["first"]

    def test_queue_that_is_added(self, queue, channel, observer):
        """What waited in it is found as if nothing had been claimed before."""
        other = declared(channel, "two")
        with Inbox(channel, queue) as inbox:
            publish(other, "waits")
            pass_by(inbox, queue)
            inbox.consumer.add_queue(other)
            inbox.consumer.consume()
            assert inbox.take_bodies(1) == ["waits"]

    def test_session_that_is_lost(self, queue, channel, observer):
        """The next one begins from the beginning, since a crash may have brought something back."""
        with Inbox(channel, queue, prefetch_count=1) as inbox:
            publish(queue, "returns")
            (returns,) = inbox.take(1)
            pass_by_others(inbox, queue)
            returns.requeue()
            channel.connection.intake.flush()
            pid = channel.connection.intake.session.backend_pid
            observer.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            assert inbox.take_bodies(1, 20) == ["returns"]


def pass_by_others(inbox: Inbox, queue: Queue) -> None:
    """The same, where one is held."""
    inbox.consumer.qos(prefetch_count=2)
    pass_by(inbox, queue)


def test_who_is_woken_looks_behind_first(queue, channel, long_looks, looks, monkeypatch):
    """A look from the beginning that is due does not delay what rang the bell."""
    monkeypatch.setattr(lanes, "_LONGEST_PAUSE", 0.0)
    with Inbox(channel, queue) as inbox:
        pass_by(inbox, queue)
        for number in range(5):
            inbox.stays_empty()
            looks.whole.clear()
            publish(queue, str(number))
            assert inbox.take_bodies(1) == [str(number)]
            assert not looks.whole[0]


@pytest.mark.usefixtures("long_looks")
class TestFurtherInFront:
    """What appears in front of what was claimed is found by the next look from the beginning."""

    def test_what_is_given_back(self, queue, channel):
        """A requeued message keeps its place."""
        with Inbox(channel, queue, prefetch_count=2) as inbox:
            publish(queue, "returns")
            (returns,) = inbox.take(1)
            pass_by(inbox, queue)
            returns.requeue()
            assert inbox.take_bodies(1) == ["returns"]

    def test_what_is_committed_late(self, queue, channel, observer):
        """Its number is older than those of the others."""
        with Inbox(channel, queue) as inbox:
            with observer.transaction():
                publish_by_hand(observer, queue)
                pass_by(inbox, queue)
            assert inbox.take_bodies(1) == ["by hand"]

    def test_another_priority(self, queue, channel):
        """One that has not been seen yet is in no lane."""
        with Inbox(channel, queue) as inbox:
            pass_by(inbox, queue)
            publish(queue, "urgent", priority=9)
            assert inbox.take_bodies(1) == ["urgent"]

    def test_more_than_one_window(self, queue, channel, observer):
        """What lies there is claimed on end, and not one window at each look from the beginning."""
        with Inbox(channel, queue, prefetch_count=2) as inbox:
            with observer.transaction():
                for _ in range(20):
                    publish_by_hand(observer, queue)
                pass_by(inbox, queue)
            begin = time.monotonic()
            assert inbox.take_bodies(20) == ["by hand"] * 20
            assert time.monotonic() - begin < 8, "10 looks, each a second behind the last"


@pytest.mark.parametrize("count", [2, 4])
def test_front_of_each_queue(count, channel, observer, long_looks, monkeypatch):
    """Looks from the beginning begin with every queue in turn, although they alternate with the others."""
    monkeypatch.setattr(lanes, "_LONGEST_PAUSE", 0.0)
    queues = [declared(channel, f"number {number}") for number in range(count)]
    with Inbox(channel, *queues, prefetch_count=1) as inbox:
        with observer.transaction():
            for queue in queues:
                publish_by_hand(observer, queue)
            for queue in queues:
                pass_by(inbox, queue)
        for queue in queues:
            publish(queue, *["behind"] * 50)
        bodies = inbox.take_bodies(20 * count)
        assert bodies.count("by hand") == count


def publish_by_hand(observer: psycopg.Connection[Any], queue: Queue) -> None:
    observer.execute(
        """WITH stored AS (
            INSERT INTO celery.message (uuid, queue_id, priority, exchange, routing_key, content_type,
                                        content_encoding, headers, properties, body)
            SELECT gen_random_uuid(), id, 0, '', name, 'text/plain', 'utf-8', '{}', '{}', 'by hand'
              FROM celery.queue WHERE name = %s RETURNING queue_id, priority, id)
        INSERT INTO celery.ready SELECT queue_id, priority, id, 0 FROM stored""",
        [queue.name],
    )


def test_few_looks_pass_over_what_an_open_transaction_keeps(queue, channel, observer, database_url, looks):
    """Most claims begin behind it; when the transaction has ended, all of them from the beginning again."""
    with psycopg.connect(database_url) as report:
        keep_rows(queue, observer, report)
        with Inbox(channel, queue, prefetch_count=1) as inbox:
            for number in range(300):
                publish(queue, str(number))
                assert inbox.take_bodies(1) == [str(number)]
            assert sum(looks.whole) < len(looks.whole) / 3
            report.rollback()
            observer.execute("VACUUM celery.ready")
            until_no_claim_begins_behind(inbox, queue, looks)


def test_one_queue_of_two_in_which_rows_are_kept(queue, channel, observer, database_url, looks):
    """Short looks at the other one do not hide the long ones."""
    other = declared(channel, "two")
    with psycopg.connect(database_url) as report:
        keep_rows(queue, observer, report)
        with Inbox(channel, queue, other, prefetch_count=1) as inbox:
            for _ in range(20):
                publish(queue, *["one"] * 10)
                publish(other, *["two"] * 10)
                inbox.take_bodies(20)
            assert sum(looks.whole) < len(looks.whole) / 2


def keep_rows(queue: Queue, observer: psycopg.Connection[Any], report: psycopg.Connection[Any]) -> None:
    """`report` sees what was claimed."""
    report.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    observer.execute(
        "INSERT INTO celery.ready SELECT id, 0, n, 0 FROM celery.queue, generate_series(%s, -1) n"
        " WHERE name = %s",
        [-DEAD, queue.name],
    )
    report.execute("SELECT count(*) FROM celery.ready")
    observer.execute("DELETE FROM celery.ready WHERE message_id < 0")


def until_no_claim_begins_behind(inbox: Inbox, queue: Queue, looks: Looks) -> None:
    deadline = time.monotonic() + 20
    while True:
        looks.whole.clear()
        for _ in range(20):
            publish(queue, "again")
            inbox.take_bodies(1)
        if all(looks.whole):
            return
        assert time.monotonic() < deadline, "claims begin behind although nothing is there"
