"""The broadcast log: each reader gets each entry once, whatever commits when."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kombu import Connection, Consumer, Exchange, Queue

from celery_postgres import dsn
from celery_postgres.broadcast import PAGE, BroadcastReader
from celery_postgres.connection import Database
from celery_postgres.options import Options
from celery_postgres.sql import Statement, consumers, messages, topology
from celery_postgres.sweeper import _LOG_KEPT
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .hand import Hand

NEWS = Exchange("news", type="fanout", durable=False)

SHORT_LOCK_TIMEOUT = Statement("set_lock_timeout", "SELECT set_config('lock_timeout', '10ms', false)")


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """A reader, which looks when a bell rings."""
    with Connection(url, transport_options={"poll_interval": 30, "max_poll_interval": 30}) as connection:
        yield connection


@pytest.fixture
def publisher(url: str) -> Iterator[Any]:
    with Connection(url) as connection:
        yield connection.Producer()


class Reader:
    """Consumes one or more exclusive queues of the news."""

    def __init__(self, connection: Connection, *names: str) -> None:
        self.connection = connection
        self.heard: list[tuple[str, Any]] = []
        channel = connection.channel()
        self.queues = [Queue(name, NEWS, exclusive=True, durable=False)(channel) for name in names]
        for queue in self.queues:
            queue.declare()
        self.consumers = [
            Consumer(channel, [queue], no_ack=True, on_message=self._heard_on(queue.name))
            for queue in self.queues
        ]
        for consumer in self.consumers:
            consumer.consume()

    def _heard_on(self, name: str) -> Any:
        return lambda message: self.heard.append((name, message.payload))

    def listen(self, count: int) -> list[tuple[str, Any]]:
        """Everything heard, once it is `count` at least and nothing more comes."""
        while len(self.heard) < count:
            self.connection.drain_events(timeout=20)
        while self.drain(0.1):
            pass
        return self.heard

    def drain(self, timeout_s: float) -> bool:
        try:
            self.connection.drain_events(timeout=timeout_s)
        except TimeoutError:
            return False
        return True


def publish_by_hand(hand: Hand, text: str) -> None:
    body = f'"{text}"'.encode()
    content = (None, None, None, "application/json", "utf-8", "{}", "{}", body, None, "on")
    hand.run(messages.PUBLISH, uuid.uuid4(), "news", "", 0, *content)


def test_task_does_not_overtake_the_command_before_it(url, publisher) -> None:
    """Both are found by one look; what was told to everybody before is heard first."""
    with Connection(url, transport_options={"notify": False, "poll_interval": 0.05}) as connection:
        reader = Reader(connection, "a")
        work = Queue("work")(connection.channel())
        work.declare()
        with Consumer(work.channel, [work], no_ack=True, on_message=reader._heard_on("work")):
            publisher.publish("revoke it", exchange=NEWS)
            publisher.publish("task", routing_key="work")
            assert reader.listen(2) == [("a", "revoke it"), ("work", "task")]


def test_publisher_that_commits_late_is_not_missed(connection, publisher, new_hand) -> None:
    """It began first and commits last: the reader had gone past it, and hears it once."""
    reader = Reader(connection, "a")
    late = new_hand()
    late.begin()
    publish_by_hand(late, "late")
    publisher.publish("prompt", exchange=NEWS)
    assert reader.listen(1) == [("a", "prompt")]
    late.commit()
    publisher.publish("last", exchange=NEWS)
    assert reader.listen(3) == [("a", "prompt"), ("a", "late"), ("a", "last")]


def test_reader_that_has_seen_the_future(connection, publisher) -> None:
    """After a crash, which empties the log and gives numbers of transactions out again, all of it is new."""
    reader = Reader(connection, "a")
    log = connection.transport.intake._reader
    log._seen = dict.fromkeys(log.queue_ids, "99999999:99999999:")
    publisher.publish("new", exchange=NEWS)
    publisher.publish("newer", exchange=NEWS)
    assert reader.listen(2) == [("a", "new"), ("a", "newer")]


def test_reader_that_comes_back_late_after_a_crash(connection, publisher, url) -> None:
    """By then the server has given out again the numbers that this one has seen."""
    reader = Reader(connection, "a")
    intake = connection.transport.intake
    with psycopg.connect(url, autocommit=True) as database:
        row = database.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
        assert row is not None
        seen = row[0] + 10
        intake._reader._seen = dict.fromkeys(intake._reader.queue_ids, f"{seen}:{seen}:")
        for number in range(20):
            publisher.publish(number, exchange=NEWS)
        database.execute("UPDATE celery.epoch SET id = gen_random_uuid()")
        database.execute(f"SELECT pg_terminate_backend({intake.session.backend_pid})".encode())
    assert reader.listen(20) == [("a", number) for number in range(20)]


def test_what_was_published_before_the_declaration_is_not_heard(connection, publisher, new_hand) -> None:
    """Also when the one commits and the other happens at the same time."""
    Reader(connection, "first")
    publisher.publish("before", exchange=NEWS)
    reader = Reader(connection, "second")
    publisher.publish("after", exchange=NEWS)
    reader.listen(1)
    assert reader.heard == [("second", "after")]


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")], ids=["one queue", "three queues"])
def test_more_than_a_page(connection, publisher, names) -> None:
    """A reader that comes late reads page after page: everything, once for each queue, in its order."""
    reader = Reader(connection, *names)
    count = PAGE + PAGE // 2
    with publisher.batch():
        for number in range(count):
            publisher.publish(number, exchange=NEWS)
    reader.listen(count * len(names))
    for name in names:
        assert [payload for heard_on, payload in reader.heard if heard_on == name] == list(range(count))


def test_entry_of_several_queues_lies_across_two_pages(hand, url) -> None:
    """A page that ends between the copies for two queues loses neither."""
    hand.sql("INSERT INTO celery.exchange VALUES ('news', 'fanout', false, false, '{}')")
    values = [False, False, True, None, "{}", None, None, None, None, None, None, None, True]
    reader = BroadcastReader()
    for name in ("a", "b", "c"):
        row = hand.run(topology.DECLARE_QUEUE, name, *values)[0]
        hand.run(topology.BIND, "news", "", name, "")
        reader.follow(row[0], row[12])
    for number in range(PAGE // 2):
        publish_by_hand(hand, str(number))
    seen = _read_all(url, reader)
    assert len(seen) == len(set(seen)) == 3 * (PAGE // 2)


def _read_all(url: str, reader: BroadcastReader) -> list[tuple[int, int]]:
    session, _ = Database(dsn.parse(url), Options()).open()
    seen = []
    try:
        while True:
            call = reader.call()
            seen += [(c.queue_id, c.message_id) for c in reader.take(call, session.run(call)[0])]
            if not reader.more:
                return seen
    finally:
        session.close()


def test_entries_published_between_two_pages_come_once(connection, publisher, hand) -> None:
    """They are newer than the snapshot of the first page: the read after the last page brings them."""
    reader = Reader(connection, "a")
    with publisher.batch():
        for number in range(2 * PAGE + 10):
            publisher.publish(number, exchange=NEWS)
    while not reader.heard:
        connection.drain_events(timeout=20)
    publisher.publish("meanwhile", exchange=NEWS)
    heard = [payload for _, payload in reader.listen(2 * PAGE + 11)]
    assert heard == [*range(2 * PAGE + 10), "meanwhile"]


def test_read_that_the_server_refuses_is_done_again_from_there(connection, publisher, hand, caplog) -> None:
    """Pages that were handed out are not handed out again."""
    reader = Reader(connection, "a")
    connection.connection.intake.session.run((SHORT_LOCK_TIMEOUT, ()))
    with publisher.batch():
        for number in range(6 * PAGE):
            publisher.publish(number, exchange=NEWS)
    while not reader.heard:
        connection.drain_events(timeout=20)
    hand.begin()
    hand.sql("LOCK TABLE celery.broadcast IN ACCESS EXCLUSIVE MODE")

    def refused() -> bool:
        while reader.drain(0.1):
            pass
        return "refused a batch" in caplog.text

    eventually(refused)
    hand.rollback()
    heard = [payload for _, payload in reader.listen(6 * PAGE)]
    assert heard == list(range(6 * PAGE))


class TestGet:
    """`basic_get` on a queue of the log, beside consumers of the same connection."""

    @pytest.fixture
    def box(self, connection) -> Queue:
        box = Queue("box", NEWS, exclusive=True, durable=False)(connection.channel())
        box.declare()
        return box

    def test_what_is_not_taken_stays(self, connection, publisher, box) -> None:
        """Another consumer's events do not sweep it away."""
        reader = Reader(connection, "a")
        for number in range(3):
            publisher.publish(number, exchange=NEWS)
        assert box.get(no_ack=True).payload == 0
        reader.listen(3)
        assert [box.get(no_ack=True).payload for _ in range(2)] == [1, 2]
        assert box.get(no_ack=True) is None

    def test_what_comes_while_others_read_stays(self, connection, publisher, box) -> None:
        """A read for a consumer brings entries for the box, too."""
        assert box.get(no_ack=True) is None
        reader = Reader(connection, "a")
        publisher.publish("x", exchange=NEWS)
        reader.listen(1)
        assert box.get(no_ack=True).payload == "x"

    def test_more_than_a_page(self, publisher, box) -> None:
        """All of it, one by one."""
        with publisher.batch():
            for number in range(PAGE + 3):
                publisher.publish(number, exchange=NEWS)
        assert [box.get(no_ack=True).payload for _ in range(PAGE + 3)] == list(range(PAGE + 3))


class TestAge:
    """How long the log keeps what nobody has read."""

    def trimmed(self, hand, age_s: float) -> bool:
        hand.sql("UPDATE celery.broadcast SET published_at = now() - $1 * interval '1 s'", age_s)
        hand.run(consumers.TRIM_BROADCAST, _LOG_KEPT)
        return hand.count("broadcast") == 0

    @pytest.mark.parametrize(
        ("ttl_s", "age_s", "gone"), [(300, 200, False), (None, 600, False), (None, 4000, True)]
    )
    def test_entry_lives_as_long_as_its_queue_says(
        self, connection, publisher, hand, ttl_s, age_s, gone
    ) -> None:
        """A worker that is busy for minutes still hears what it was told: control queues say 300 s."""
        queue = Queue("a", NEWS, exclusive=True, durable=False, message_ttl=ttl_s)(connection.channel())
        queue.declare()
        publisher.publish("revoke", exchange=NEWS)
        assert self.trimmed(hand, age_s) is gone

    def test_shortest_time_of_several_queues_does_not_count(self, connection, publisher, hand) -> None:
        """An entry that one queue keeps for ever is kept, although another one forgets it soon."""
        channel = connection.channel()
        for name, ttl_s in (("a", 0.001), ("b", None)):
            Queue(name, NEWS, exclusive=True, durable=False, message_ttl=ttl_s)(channel).declare()
        publisher.publish("x", exchange=NEWS)
        assert not self.trimmed(hand, 1)


def test_deleted_queues_are_not_followed(connection) -> None:
    """A process that asks again and again, each time with a reply queue, does not read for all of them."""
    for number in range(3):
        channel = connection.channel()
        queue = Queue(f"reply{number}", NEWS, exclusive=True, durable=False, auto_delete=True)(channel)
        queue.declare()
        queue.get()
        queue.delete()
        channel.close()
    assert not connection.connection.intake._reader.queue_ids


def test_bell_between_two_pages_is_not_forgotten(url, hand) -> None:
    """What it announced is newer than the pages that are under way: another read is due behind them."""
    hand.sql("INSERT INTO celery.exchange VALUES ('news', 'fanout', false, false, '{}')")
    values = [False, False, True, None, "{}", None, None, None, None, None, None, None, True]
    queue = hand.run(topology.DECLARE_QUEUE, "a", *values)[0]
    hand.run(topology.BIND, "news", "", "a", "")
    reader = BroadcastReader()
    reader.follow(queue[0], queue[12])
    for number in range(PAGE + 1):
        publish_by_hand(hand, str(number))
    session, _ = Database(dsn.parse(url), Options()).open()
    call = reader.call()
    reader.take(call, session.run(call)[0])
    assert reader.more
    publish_by_hand(hand, "meanwhile")
    reader.due = False  # as when the next page is sent
    call = reader.call()
    reader.take(call, session.run(call)[0])
    session.close()
    assert not reader.more
    assert reader.due
