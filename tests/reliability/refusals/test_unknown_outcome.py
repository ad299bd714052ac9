"""The link is cut at each point of a publish: what kombu's retry then does is stored once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kombu import Connection, Consumer, Queue
from kombu.exceptions import BatchPublishError

from celery_postgres import dsn, schema, worker
from celery_postgres.commands import Commands
from celery_postgres.connection import Database
from celery_postgres.delivery import outgoing
from celery_postgres.errors import DatabaseUnavailable
from celery_postgres.options import Options
from celery_postgres.sql import Statement
from celery_postgres.wakeup import Bell
from tests.fixtures.proxy import Proxy
from tests.fixtures.standby import execute
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLICY = {"max_retries": 20, "interval_start": 0, "interval_step": 0.05}
BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
CUTS = ["before it was sent", "before it was committed", "before the answer came"]


@pytest.fixture(scope="module")
def migrated(module_database_url: str) -> str:
    schema.upgrade(dsn.parse(module_database_url), "celery")
    return module_database_url


@pytest.fixture
def url(migrated: str) -> Iterator[str]:
    """A database with an empty queue `q`."""
    with Connection(migrated) as connection:
        Queue("q")(connection.channel()).declare()
    yield migrated
    execute(migrated, "TRUNCATE celery.message, celery.ready, celery.unacked, celery.published")


class Holding(Proxy):
    """Keeps who connects anew waiting, once it has swallowed an answer for `TestConsumedMeanwhile`."""

    holds = False

    def swallow_answer(self) -> bool:
        if self._swallow and self.holds:
            self.forward.clear()
        return super().swallow_answer()


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's process opens a lost session anew by itself, and kombu's retry is what this is about."""
    monkeypatch.setattr(worker, "is_worker", lambda: False)


@pytest.fixture
def proxy(url: str) -> Iterator[Holding]:
    with Holding(url) as proxy:
        yield proxy


@contextmanager
def idle_consumer(url: str) -> Iterator[list[Any]]:
    """Waits for messages of `q` and acknowledges none; what it was given."""
    got: list[Any] = []
    stopped = threading.Event()

    def work() -> None:
        with Connection(url) as connection, Consumer(connection, Queue("q"), on_message=got.append):
            while not stopped.is_set():
                try:
                    connection.drain_events(timeout=0.1)
                except TimeoutError:
                    continue

    thread = threading.Thread(target=work)
    thread.start()
    idle = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND objsubid = 2"
    eventually(lambda: execute(url, idle), what="the consumer is idle")
    try:
        yield got
    finally:
        stopped.set()
        thread.join(20)


def cut_at(point: str, url: str, proxy: Proxy, publish: Callable[[], Any]) -> None:
    """Run `publish()`, which meets a cut of the link at this point."""
    if point == "before it was sent":
        proxy.cut()
        publish()
    elif point == "before the answer came":
        proxy.cut_at_next_answer()
        publish()
        assert proxy.answered.is_set()
    else:
        with ThreadPoolExecutor(1) as pool, psycopg.connect(url) as holder:
            holder.execute("LOCK TABLE celery.message IN EXCLUSIVE MODE")

            def cut() -> None:
                eventually(lambda: execute(url, BLOCKED), what="the publisher waits")
                proxy.cut()
                holder.rollback()

            cutting = pool.submit(cut)
            publish()
            cutting.result(30)


def count(url: str) -> object:
    return execute(url, "SELECT count(*) FROM celery.message")[0][0]


@pytest.mark.parametrize("dedup", [False, True], ids=["plain", "dedup"])
@pytest.mark.parametrize("somebody_waits", [False, True], ids=["nobody waits", "somebody waits"])
@pytest.mark.parametrize("point", CUTS)
def test_retry_of_a_publish_stores_once(url, proxy, point, somebody_waits, dedup) -> None:
    """Also where it is shown to a waiting consumer before it is on disk."""
    with Connection(proxy.url, transport_options={"publish_dedup": dedup}) as connection:
        producer = connection.Producer(routing_key="q")
        producer.publish("first")  # the route is known from now on
        if not somebody_waits:
            cut_at(point, url, proxy, lambda: producer.publish("x", retry=True, retry_policy=POLICY))
            assert count(url) == 2
            return
        with idle_consumer(url) as got:
            eventually(lambda: len(got) == 1, what="the first one arrives")
            cut_at(point, url, proxy, lambda: producer.publish("x", retry=True, retry_policy=POLICY))
            eventually(lambda: len(got) == 2, what="the second one arrives")
            assert count(url) == 2


@pytest.mark.parametrize("point", CUTS)
def test_batch_is_stored_as_a_whole_or_not(url, proxy, point) -> None:
    """`Producer.batch()` tells the caller that it does not know; all of it is stored, or nothing."""
    with Connection(proxy.url) as connection:
        producer = connection.Producer(routing_key="q")
        batch = producer.batch()
        batch.__enter__()
        for number in range(20):
            producer.publish(number)

        def finish() -> None:
            with pytest.raises(BatchPublishError):
                batch.__exit__(None, None, None)

        cut_at(point, url, proxy, finish)
    # The server goes on with what it was told, whether anybody hears of it or not.
    eventually(lambda: not execute(url, BLOCKED))
    assert count(url) in ({0} if point == CUTS[0] else {0, 20} if point == CUTS[1] else {20})


@pytest.mark.parametrize("point", CUTS)
def test_repeated_transaction_of_many_stores_once(url, proxy, point) -> None:
    """`Commands.publish_all` over another session with the same messages, as for the body of a chord."""
    database = Database(dsn.parse(proxy.url), Options())
    with Connection(url) as connection:
        channel = connection.channel()
        prepared = [channel.prepare_message(b"%d" % number, properties={}) for number in range(20)]
    messages = [outgoing(message, "", "q", Options())[0] for message in prepared]
    commands = Commands(*database.open(), Bell("celery"), Options())

    def publish() -> None:
        nonlocal commands
        with pytest.raises(DatabaseUnavailable):
            commands.publish_all(messages)
        assert all(message.repeated for message in messages)
        commands = Commands(*database.open(), Bell("celery"), Options())
        _, answers = commands.publish_all(messages, [(Statement("one", "SELECT 1"), ())])
        assert answers[0].integer(0, 0) == 1

    cut_at(point, url, proxy, publish)
    commands.close()
    assert count(url) == 20


class TestConsumedMeanwhile:
    """The first attempt was stored and consumed before the second one comes."""

    def publish(self, url: str, proxy: Holding, **options: Any) -> int:
        """Publish with a lost answer, and consume before the retry comes; how often it is received."""
        received: list[object] = []

        def consume() -> None:
            with Connection(url) as connection:
                queue = connection.SimpleQueue("q", no_ack=True)
                with suppress(queue.Empty):
                    while True:
                        received.append(queue.get(block=False).payload)

        def consume_meanwhile() -> None:
            assert proxy.answered.wait(20)
            consume()
            proxy.forward.set()

        with (
            ThreadPoolExecutor(1) as pool,
            Connection(proxy.url, transport_options=options, connect_timeout=20) as connection,
        ):
            producer = connection.Producer(routing_key="q")
            producer.channel  # noqa: B018  connects
            proxy.holds = True
            proxy.cut_at_next_answer()
            consuming = pool.submit(consume_meanwhile)
            producer.publish("x", retry=True, retry_policy=POLICY)
            consuming.result(30)
        assert len(received) == 1
        consume()
        return len(received)

    def test_publish_dedup_keeps_it_from_being_doubled(self, url, proxy) -> None:
        """The retry finds the trace of the first attempt and stores nothing."""
        assert self.publish(url, proxy, publish_dedup=True) == 1

    def test_without_it_is_doubled(self, url, proxy) -> None:
        """What the option is for."""
        assert self.publish(url, proxy) == 2

    def test_broadcast_is_not_doubled_either(self, url, proxy) -> None:
        """An entry of the log is written once."""
        with Connection(url) as connection:
            Queue("celeryev.x", durable=False, auto_delete=True)(connection.channel()).declare()
            with Connection(proxy.url, transport_options={"publish_dedup": True}) as publisher:
                proxy.cut_at_next_answer()
                publisher.Producer(routing_key="celeryev.x").publish("x", retry=True, retry_policy=POLICY)
            assert execute(url, "SELECT count(*) FROM celery.broadcast") == [(1,)]

    def test_mandatory_message_is_routed_all_the_same(self, url, proxy) -> None:
        """A retry that stores nothing does not look like a message without a queue."""
        with Connection(proxy.url, transport_options={"publish_dedup": True}) as connection:
            proxy.cut_at_next_answer()
            producer = connection.Producer(routing_key="q")
            producer.publish("x", retry=True, retry_policy=POLICY, mandatory=True)
        assert count(url) == 1

    def test_deliberate_repeat_is_a_second_message(self, url) -> None:
        """Equal content is not a retry."""
        with Connection(url, transport_options={"publish_dedup": True}) as connection:
            producer = connection.Producer(routing_key="q")
            for _ in range(2):
                producer.publish("x", retry=True, correlation_id="same")
        assert count(url) == 2

    def test_traces_go_after_ten_minutes(self, url) -> None:
        """A worker's maintenance deletes them, and leaves the younger ones."""
        execute(
            url,
            "INSERT INTO celery.published SELECT gen_random_uuid(), now() - interval '601 s'"
            " FROM generate_series(1, 2500)",
            "INSERT INTO celery.published SELECT gen_random_uuid(), now() - interval '500 s'"
            " FROM generate_series(1, 10)",
        )
        with idle_consumer(url):
            eventually(
                lambda: execute(url, "SELECT count(*) FROM celery.published") == [(10,)],
                what="the old traces are deleted",
            )
