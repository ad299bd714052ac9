"""After a loss both sides agree again on what is held: each way in which they can differ, made by hand."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection

import celery_postgres  # noqa: F401  registers the schemes
from celery_postgres import held, intake, recovery
from celery_postgres.errors import DatabaseUnavailable
from tests.fixtures.proxy import Proxy
from tests.fixtures.waiting import PATIENCE_S, eventually

from .conftest import database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from celery_postgres.intake import Intake

QUEUE = "reconciled"

BACK_TO_READY = """WITH undone AS (DELETE FROM celery.unacked RETURNING *)
INSERT INTO celery.ready SELECT queue_id, priority, message_id, deliveries - 1 FROM undone"""


CONTROL = "commands"


class Consumer:
    """A consumer behind a link that can be cut, without an event loop; `got` is what it was given."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.proxy = Proxy(url)
        self.connection = Connection(f"{self.proxy.url}?poll_interval=0.1&max_poll_interval=0.1&grace=60")
        self.channel = self.connection.channel()
        self.channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        self.got: list[Any] = []

    @property
    def intake(self) -> Intake:
        intake: Intake = self.connection.transport.intake
        return intake

    def consume(self) -> None:
        self.channel.basic_consume(QUEUE, callback=self.got.append)

    def publish(self, body: bytes = b"body") -> None:
        """Over the connection's other session, which may have been lost as well."""
        eventually(self._can_publish)
        headers = {"id": body.decode(), "task": "reconciled"}
        message = self.channel.prepare_message(body, content_type="text/plain", headers=headers)
        self.channel.basic_publish(message, exchange="", routing_key=QUEUE)

    def _can_publish(self) -> bool:
        try:
            return self.connection.transport.commands is not None
        except DatabaseUnavailable:
            return False

    def drain(self, seconds: float = 10) -> None:
        self.connection.drain_events(timeout=seconds)

    def drain_until(self, condition: Any) -> None:
        """Go on as a worker without an event loop does."""

        def turned() -> bool:
            try:
                self.drain(0.05)
            except TimeoutError:
                pass
            return bool(condition())

        eventually(turned)

    def lose(self) -> None:
        """Cut the link; nothing gets through until `find`."""
        self.proxy.forward.clear()
        self.proxy.cut()
        eventually(lambda: self.intake.session.away)

    def find(self) -> None:
        self.proxy.forward.set()
        assert self.intake.session.wait_home(PATIENCE_S)

    def close(self) -> None:
        self.proxy.forward.set()
        self.proxy.backward.set()
        self.connection.release()
        self.proxy.__exit__(None, None, None)


@pytest.fixture
def consumer(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Consumer]:
    """One that forgets nothing of what it acknowledged, however long a test takes on a busy machine."""
    monkeypatch.setattr(held, "REMEMBERED", 600.0)
    made = Consumer(database_url)
    yield made
    made.close()


@pytest.fixture
def tables(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with database(database_url) as connection:
        yield connection


def count(tables: psycopg.Connection[Any], table: str) -> int:
    row = tables.execute(f"SELECT count(*) FROM celery.{table}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row[0])


def claim_without_an_answer(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """All that is ready; the consumer does not hear of it."""
    tables.execute(
        """WITH claimed AS (DELETE FROM celery.ready RETURNING *)
        INSERT INTO celery.unacked (consumer_id, message_id, queue_id, priority, deliveries)
        SELECT %s, message_id, queue_id, priority, deliveries + 1 FROM claimed""",
        (consumer.intake.incarnation.id,),
    )


def write_ahead(tables: psycopg.Connection[Any]) -> None:
    """What is there now is on disk, what comes is not."""
    tables.execute("DROP TABLE IF EXISTS kept_message, kept_unacked")
    tables.execute("CREATE TABLE kept_message AS TABLE celery.message")
    tables.execute("CREATE TABLE kept_unacked AS TABLE celery.unacked")


def crash(tables: psycopg.Connection[Any]) -> None:
    """What is there now is what was on disk, and the life of the server has a name that does not follow."""
    tables.execute("UPDATE celery.epoch SET id = gen_random_uuid()")
    tables.execute("DELETE FROM celery.unacked")
    tables.execute("DELETE FROM celery.message")
    tables.execute("INSERT INTO celery.message OVERRIDING SYSTEM VALUE TABLE kept_message")
    tables.execute("INSERT INTO celery.unacked TABLE kept_unacked")


def test_held_message_stays_held(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """What was delivered is acknowledged over the next session, as if nothing had been."""
    consumer.consume()
    consumer.publish()
    consumer.drain()
    identity = consumer.intake.incarnation.id
    consumer.lose()
    consumer.got[0].ack()
    consumer.find()
    consumer.drain_until(lambda: count(tables, "unacked") == 0)
    assert count(tables, "message") == 0
    assert consumer.intake.incarnation.id == identity
    assert len(consumer.got) == 1


def test_claim_whose_answer_came_late(
    consumer: Consumer, tables: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken for lost: both sides agree first, and the message is delivered once."""
    consumer.consume()
    hold_back_the_answer_to_a_claim(consumer, tables, monkeypatch)
    consumer.drain_until(lambda: consumer.got)
    assert [message.body for message in consumer.got] == [b"late"]
    assert not consumer.got[0].delivery_info["redelivered"]
    consumer.got[0].ack()
    consumer.drain_until(lambda: count(tables, "message") == 0)
    assert len(consumer.got) == 1


def test_late_answer_to_one_who_is_dead(
    consumer: Consumer, tables: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link was cut for so long that others were given what was claimed: nothing of it is run here."""
    consumer.consume()

    def declare_dead() -> None:
        tables.execute(BACK_TO_READY)
        tables.execute("DELETE FROM celery.consumer")

    hold_back_the_answer_to_a_claim(consumer, tables, monkeypatch, declare_dead)
    with pytest.raises(DatabaseUnavailable, match="declared dead"):
        consumer.drain_until(lambda: consumer.got)
    assert consumer.got == []
    assert count(tables, "ready") == 1


def let_one_wait_in_the_consumer(consumer: Consumer) -> None:
    """It has been claimed, and is not handed over: the loop's thread does something else."""
    consumer.consume()
    consumer.publish()
    intake_ = consumer.intake
    eventually(lambda: intake_.turn() or intake_.pump() or intake_.has_arrived)  # type: ignore[func-returns-value]


def test_long_silence_before_it_is_handed_over(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is asked first, and then it is handed over."""
    let_one_wait_in_the_consumer(consumer)
    monkeypatch.setattr(intake, "STALE_AFTER", 0.2)
    time.sleep(0.3)
    assert not consumer.intake.has_arrived
    assert not consumer.intake.deliver_one()
    consumer.drain_until(lambda: consumer.got)
    consumer.got[0].ack()


def test_link_that_was_cut_before_it_is_handed_over(
    consumer: Consumer, tables: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For so long that others were given it: it is not executed here when the link is back."""
    let_one_wait_in_the_consumer(consumer)
    monkeypatch.setattr(intake, "STALE_AFTER", 0.2)
    consumer.proxy.forward.clear()
    consumer.proxy.backward.clear()
    tables.execute("SELECT pg_terminate_backend(%s)", (consumer.intake.session.backend_pid,))
    tables.execute(BACK_TO_READY)
    tables.execute("DELETE FROM celery.consumer")
    time.sleep(0.3)
    with pytest.raises(TimeoutError):
        consumer.drain(0.3)
    consumer.proxy.forward.set()
    consumer.proxy.backward.set()
    with pytest.raises(DatabaseUnavailable, match="declared dead"):
        consumer.drain_until(lambda: consumer.got)
    assert consumer.got == []
    assert count(tables, "ready") == 1


def hold_back_the_answer_to_a_claim(
    consumer: Consumer,
    tables: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """It is on its way for longer than is believed."""
    with Connection(consumer.url) as publisher:
        message = publisher.default_channel.prepare_message(b"late", content_type="text/plain")
        publisher.default_channel.basic_publish(message, exchange="", routing_key=QUEUE)
    consumer.proxy.backward.clear()
    consumer.drain_until(lambda: count(tables, "unacked") == 1)
    monkeypatch.setattr(intake, "STALE_AFTER", 0.3)
    meanwhile()
    time.sleep(2 * intake.STALE_AFTER)
    assert consumer.got == []
    consumer.proxy.backward.set()


def test_claim_whose_answer_was_lost(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """It is delivered, once, and not as a redelivery."""
    consumer.consume()
    consumer.lose()
    with Connection(consumer.url) as publisher:
        message = publisher.default_channel.prepare_message(b"unknown", content_type="text/plain")
        publisher.default_channel.basic_publish(message, exchange="", routing_key=QUEUE)
        claim_without_an_answer(consumer, tables)
    consumer.find()
    consumer.drain_until(lambda: consumer.got)
    assert [message.body for message in consumer.got] == [b"unknown"]
    assert not consumer.got[0].delivery_info["redelivered"]
    consumer.got[0].ack()
    consumer.drain_until(lambda: count(tables, "message") == 0)
    assert len(consumer.got) == 1


def test_acknowledgement_that_a_crash_undid(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """It is acknowledged again, and nobody sees it again."""
    consumer.consume()
    consumer.publish()
    consumer.drain()
    write_ahead(tables)
    consumer.got[0].ack()
    consumer.drain_until(lambda: count(tables, "message") == 0 and not consumer.intake.session.busy)
    consumer.lose()
    crash(tables)
    consumer.find()
    eventually(lambda: count(tables, "message") == 0 and count(tables, "unacked") == 0)
    with pytest.raises(TimeoutError):
        consumer.drain(0.3)
    assert len(consumer.got) == 1


def test_claim_and_acknowledgement_that_a_crash_undid(
    consumer: Consumer, tables: psycopg.Connection[Any]
) -> None:
    """What was executed within the last moments is claimed and acknowledged again, and executed once."""
    consumer.consume()
    consumer.publish()
    consumer.drain()
    write_ahead(tables)
    consumer.got[0].ack()
    consumer.drain_until(lambda: count(tables, "message") == 0 and not consumer.intake.session.busy)
    consumer.lose()
    crash(tables)
    tables.execute(BACK_TO_READY)
    consumer.find()
    eventually(lambda: count(tables, "message") == 0 and count(tables, "ready") == 0)
    with pytest.raises(TimeoutError):
        consumer.drain(0.3)
    assert len(consumer.got) == 1


def test_acknowledgement_that_a_crash_undid_and_another_has(
    consumer: Consumer, tables: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The log says that it is executed again."""
    consumer.consume()
    consumer.publish()
    consumer.drain()
    write_ahead(tables)
    consumer.got[0].ack()
    consumer.drain_until(lambda: count(tables, "message") == 0 and not consumer.intake.session.busy)
    consumer.lose()
    crash(tables)
    tables.execute(BACK_TO_READY)
    with Connection(consumer.url) as other, caplog.at_level(logging.WARNING):
        got = other.default_channel.basic_get(QUEUE)
        consumer.find()
        eventually(lambda: "was undone by a crash of the server, and another consumer has it" in caplog.text)
        assert "(task body) was undone" in caplog.text
        assert "it is executed again" in caplog.text
        got.ack()
    assert count(tables, "message") == 0


def acknowledge(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """A message of task-1, which was consumed, and of which nothing was on disk but itself."""
    consumer.consume()
    consumer.publish(b"task-1")
    write_ahead(tables)
    consumer.drain()
    consumer.got[0].ack()
    consumer.drain_until(lambda: count(tables, "message") == 0 and not consumer.intake.session.busy)


def acknowledge_without_an_answer(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """The last message that was consumed; the session is lost before the consumer hears of it."""
    consumer.proxy.backward.clear()
    consumer.got[-1].ack()
    eventually(lambda: consumer.intake.turn() or count(tables, "message") == 0)  # type: ignore[func-returns-value]
    consumer.lose()


def put_back(tables: psycopg.Connection[Any]) -> None:
    """What was stored before it was claimed is ready, since the claim is undone."""
    tables.execute(
        """INSERT INTO celery.ready (queue_id, priority, message_id, deliveries)
        SELECT q.id, 0, m.id, 0 FROM celery.message m JOIN celery.queue q ON q.name = m.routing_key"""
    )


def execute_again(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """Another consumer is through with it."""
    put_back(tables)
    with Connection(consumer.url) as other:
        other.default_channel.basic_get(QUEUE).ack()


IN_DOUBT = "where that was undone, another consumer has executed them again (tasks task-1)"


def test_acknowledgement_that_a_crash_undid_and_another_had(
    consumer: Consumer, tables: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is left of it: the log says that it may have been executed again, once."""
    acknowledge(consumer, tables)
    consumer.lose()
    crash(tables)
    execute_again(consumer, tables)
    with caplog.at_level(logging.WARNING):
        consumer.find()
        eventually(lambda: IN_DOUBT in caplog.text)
        caplog.clear()
        consumer.lose()
        crash(tables)
        consumer.find()
        eventually(lambda: "connected again" in caplog.text)
    assert IN_DOUBT not in caplog.text


def test_acknowledgement_under_way_that_a_crash_undid_and_another_had(
    consumer: Consumer, tables: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It was received before the crash or was not: who knows."""
    consumer.consume()
    consumer.publish(b"task-1")
    consumer.drain()
    acknowledge_without_an_answer(consumer, tables)
    write_ahead(tables)
    crash(tables)
    consumer.proxy.backward.set()
    with caplog.at_level(logging.WARNING):
        consumer.find()
        eventually(lambda: IN_DOUBT in caplog.text)


@pytest.mark.parametrize("other", ["has it", "is through with it"])
def test_rejection_of_what_a_crash_gave_to_another(
    consumer: Consumer, tables: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture, other: str
) -> None:
    """Celery rejects a task whose retry it could not publish; that another one executes it is told."""
    consumer.consume()
    consumer.publish(b"task-1")
    write_ahead(tables)
    consumer.drain()
    consumer.lose()
    consumer.got[0].reject()
    crash(tables)
    with Connection(consumer.url) as another, caplog.at_level(logging.WARNING):
        put_back(tables)
        got = another.default_channel.basic_get(QUEUE)
        if other == "is through with it":
            got.ack()
        consumer.find()
        eventually(lambda: "(task task-1) was undone by a crash of the server" in caplog.text)
        if other == "has it":
            got.ack()


def test_rejection_whose_answer_was_lost(
    consumer: Consumer, tables: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It may be our own that has taken the message away: the log accuses nobody."""
    consumer.consume()
    consumer.publish(b"task-1")
    consumer.drain()
    write_ahead(tables)
    consumer.proxy.backward.clear()
    consumer.got[0].reject()
    eventually(lambda: consumer.intake.turn() or count(tables, "unacked") == 0)  # type: ignore[func-returns-value]
    consumer.lose()
    tables.execute("UPDATE celery.epoch SET id = gen_random_uuid()")
    consumer.proxy.backward.set()
    with caplog.at_level(logging.WARNING):
        consumer.find()
        eventually(lambda: "connected again" in caplog.text)
    assert "was undone by a crash" not in caplog.text


def test_acknowledgements_before_a_long_outage(
    consumer: Consumer,
    tables: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One had been answered and one had not: both are named, however long the server was away."""
    monkeypatch.setattr(held, "REMEMBERED", 0.3)
    acknowledge(consumer, tables)
    consumer.publish(b"task-2")
    consumer.drain()
    acknowledge_without_an_answer(consumer, tables)
    write_ahead(tables)
    crash(tables)
    time.sleep(0.5)  # longer than acknowledgements are remembered
    consumer.proxy.backward.set()
    with caplog.at_level(logging.WARNING):
        consumer.find()
        eventually(lambda: "executed them again (tasks task-1, task-2)" in caplog.text)


def test_crash_after_which_it_was_declared_dead(
    consumer: Consumer, tables: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Others were given what it had acknowledged with what it held: it says so before it begins anew."""
    acknowledge(consumer, tables)
    consumer.lose()
    crash(tables)
    execute_again(consumer, tables)
    tables.execute("DELETE FROM celery.consumer")
    with caplog.at_level(logging.WARNING):
        consumer.proxy.forward.set()
        eventually(lambda: "was declared dead" in caplog.text and IN_DOUBT in caplog.text)


def test_second_loss_before_both_sides_agree(
    consumer: Consumer,
    tables: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The crash is not forgotten with the session that met it."""
    met = []

    def lost_at_first(*args: Any) -> Any:
        met.append(args)
        if len(met) == 1:
            raise DatabaseUnavailable("lost again")
        return reconcile(*args)

    reconcile = recovery.reconcile
    acknowledge(consumer, tables)
    consumer.lose()
    crash(tables)
    execute_again(consumer, tables)
    monkeypatch.setattr(recovery, "reconcile", lost_at_first)
    with caplog.at_level(logging.WARNING):
        consumer.find()
        eventually(lambda: IN_DOUBT in caplog.text)
    assert len(met) == 2


@pytest.mark.parametrize("how", ["only a session was lost", "the server was heard of long after"])
def test_acknowledgement_that_no_crash_can_have_undone(
    consumer: Consumer,
    tables: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """The log does not speak of it."""
    acknowledge(consumer, tables)
    if how == "the server was heard of long after":
        monkeypatch.setattr(held, "REMEMBERED", 0.2)
        acknowledged_at = time.monotonic()
        consumer.drain_until(lambda: consumer.intake._turns.confirmed_at > acknowledged_at + 0.2)
        consumer.lose()
        crash(tables)
    else:
        consumer.lose()
    with caplog.at_level(logging.WARNING):
        consumer.find()
        eventually(lambda: "connected again" in caplog.text)
    assert IN_DOUBT not in caplog.text


def publish_under_the_same_number(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """A crash took the message away, and the memory that its number was given out."""
    tables.execute("DELETE FROM celery.message")
    tables.execute("SELECT setval(pg_get_serial_sequence('celery.message', 'id'), 1, false)")
    with Connection(consumer.url) as publisher:
        message = publisher.default_channel.prepare_message(b"new", content_type="text/plain")
        publisher.default_channel.basic_publish(message, exchange="", routing_key=QUEUE)


@pytest.mark.parametrize("held_at_the_crash", [True, False], ids=["held", "acknowledged"])
def test_number_that_is_given_out_again(
    consumer: Consumer, tables: psycopg.Connection[Any], held_at_the_crash: bool
) -> None:
    """A crash took a message away, and another one has its number: that one is delivered, and kept until
    it is acknowledged itself."""
    consumer.consume()
    consumer.publish(b"old")
    consumer.drain()
    if not held_at_the_crash:
        consumer.got[0].ack()
        consumer.drain_until(lambda: count(tables, "message") == 0 and not consumer.intake.session.busy)
    consumer.lose()
    tables.execute("DELETE FROM celery.unacked")
    publish_under_the_same_number(consumer, tables)
    consumer.find()
    consumer.drain_until(lambda: len(consumer.got) == 2)
    assert consumer.got[1].body == b"new"
    assert not consumer.got[1].delivery_info["redelivered"]
    if held_at_the_crash:
        consumer.got[0].ack()
        with pytest.raises(TimeoutError):
            consumer.drain(0.3)
    assert count(tables, "unacked") == count(tables, "message") == 1
    consumer.got[1].ack()
    consumer.drain_until(lambda: count(tables, "message") == 0)


def test_number_that_an_unanswered_claim_brings(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """What was acknowledged under this number was another message: this one is delivered."""
    consumer.consume()
    consumer.publish(b"old")
    consumer.drain()
    consumer.got[0].ack()
    consumer.drain_until(lambda: count(tables, "message") == 0 and not consumer.intake.session.busy)
    consumer.lose()
    publish_under_the_same_number(consumer, tables)
    claim_without_an_answer(consumer, tables)
    consumer.find()
    consumer.drain_until(lambda: len(consumer.got) == 2)
    assert consumer.got[1].body == b"new"
    consumer.got[1].ack()
    consumer.drain_until(lambda: count(tables, "message") == 0)


@pytest.mark.parametrize("verb", ["ack", "reject", "requeue"])
def test_number_of_what_was_settled_while_the_database_was_away(
    consumer: Consumer, tables: psycopg.Connection[Any], verb: str
) -> None:
    """Nothing of that is sent: the number is another message's, and that is claimed before it would be."""
    consumer.publish(b"old")
    old = consumer.channel.basic_get(QUEUE)
    queue, _consumers = consumer.channel._find(QUEUE)
    consumer.lose()
    getattr(old, verb)()
    tables.execute("DELETE FROM celery.unacked")
    publish_under_the_same_number(consumer, tables)
    consumer.find()
    new = consumer.intake.claim_one(queue)
    assert new is not None
    assert new.body == b"new"
    consumer.intake.flush()
    assert count(tables, "unacked") == count(tables, "message") == 1
    assert count(tables, "ready") == 0
    consumer.intake.ack(new)
    consumer.intake.flush()
    assert count(tables, "message") == 0


@pytest.mark.parametrize("over", [True, False], ids=["executed", "running"])
@pytest.mark.parametrize("back_to", ["unacked", "ready"])
def test_released_and_claimed_again_before_a_crash(
    consumer: Consumer, tables: psycopg.Connection[Any], back_to: str, over: bool
) -> None:
    """Whatever of that a crash undid: it is executed once more, and not twice."""
    consumer.consume()
    consumer.publish()
    consumer.drain()
    write_ahead(tables)
    consumer.got[0].requeue()
    consumer.drain_until(lambda: len(consumer.got) == 2)
    if over:
        consumer.got[1].ack()
        consumer.drain_until(lambda: count(tables, "message") == 0 and not consumer.intake.session.busy)
    consumer.lose()
    crash(tables)
    if back_to == "ready":
        tables.execute(BACK_TO_READY)
    consumer.find()
    with pytest.raises(TimeoutError):
        consumer.drain(0.3)
    assert len(consumer.got) == 2
    if not over:
        assert tables.execute("SELECT deliveries FROM celery.unacked").fetchall() == [(2,)]
        consumer.got[1].ack()
    consumer.drain_until(lambda: not any(count(tables, name) for name in ("message", "unacked", "ready")))
    assert len(consumer.got) == 2


def test_acknowledgement_that_was_received_and_then_undone(
    consumer: Consumer, tables: psycopg.Connection[Any]
) -> None:
    """Its answer was lost with one session, and itself with the crash that ended the next."""
    consumer.consume()
    consumer.publish()
    consumer.drain()
    write_ahead(tables)
    consumer.proxy.backward.clear()
    consumer.got[0].ack()
    eventually(lambda: consumer.intake.turn() or count(tables, "message") == 0)  # type: ignore[func-returns-value]
    consumer.lose()
    consumer.proxy.backward.set()
    consumer.find()
    consumer.lose()
    crash(tables)
    tables.execute(BACK_TO_READY)
    consumer.find()
    with pytest.raises(TimeoutError):
        consumer.drain(0.3)
    assert len(consumer.got) == 1
    assert count(tables, "message") == 0


def test_many_claims_whose_answers_were_lost(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """They are delivered in the order of their queue."""
    consumer.consume()
    consumer.lose()
    with Connection(consumer.url) as publisher:
        for number in range(120):
            message = publisher.default_channel.prepare_message(b"%d" % number, content_type="text/plain")
            publisher.default_channel.basic_publish(message, exchange="", routing_key=QUEUE)
    claim_without_an_answer(consumer, tables)
    consumer.find()
    consumer.drain_until(lambda: len(consumer.got) == 120)
    assert [int(message.body) for message in consumer.got] == list(range(120))


def test_acknowledgement_under_way_that_a_crash_undid_and_another_has(
    consumer: Consumer, tables: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, although nobody knows here whether it had been received."""
    consumer.consume()
    consumer.publish(b"task-1")
    consumer.drain()
    consumer.proxy.backward.clear()
    write_ahead(tables)
    consumer.got[0].ack()
    eventually(lambda: consumer.intake.turn() or count(tables, "message") == 0)  # type: ignore[func-returns-value]
    consumer.lose()
    crash(tables)
    tables.execute(BACK_TO_READY)
    with Connection(consumer.url) as other, caplog.at_level(logging.WARNING):
        got = other.default_channel.basic_get(QUEUE)
        consumer.proxy.backward.set()
        consumer.find()
        eventually(lambda: "(task task-1) was undone by a crash of the server" in caplog.text)
        got.ack()
    assert count(tables, "message") == 0


def test_claim_that_a_crash_undid(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """What is ready again as it was is claimed again, in hand or delivered, and is not delivered twice."""
    consumer.consume()
    consumer.publish()
    consumer.drain()
    consumer.lose()
    tables.execute(BACK_TO_READY)
    consumer.find()
    assert count(tables, "ready") == 0
    consumer.got[0].ack()
    consumer.drain_until(lambda: count(tables, "message") == 0)
    assert len(consumer.got) == 1


@pytest.mark.parametrize("delivered", [True, False], ids=["delivered", "not yet delivered"])
def test_claim_that_a_crash_undid_and_another_has(
    consumer: Consumer,
    tables: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
    delivered: bool,
) -> None:
    """It is the other's: not delivered here any more, and acknowledged too late, as the log says."""
    consumer.consume()
    consumer.publish(b"task-1")
    if delivered:
        consumer.drain()
    else:
        eventually(lambda: consumer.intake.turn() or consumer.intake.pump() or consumer.intake.has_arrived)  # type: ignore[func-returns-value]
    consumer.lose()
    tables.execute(BACK_TO_READY)
    with Connection(consumer.url) as other:
        got = other.default_channel.basic_get(QUEUE)
        assert got.body == b"task-1"
        with caplog.at_level(logging.WARNING):
            consumer.find()
            assert not consumer.intake.has_arrived
            eventually(
                lambda: "was undone by a crash of the server, and another consumer has it" in caplog.text
            )
            if delivered:
                consumer.got[0].ack()
                consumer.drain_until(lambda: "(task task-1) came too late" in caplog.text)
        assert count(tables, "unacked") == 1
        got.ack()
    assert count(tables, "message") == 0
    assert len(consumer.got) == int(delivered)


def test_claim_that_a_crash_undid_and_another_had(
    consumer: Consumer, tables: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The other has acknowledged it as well by now: the log says that it was executed twice."""
    consumer.consume()
    consumer.publish(b"task-1")
    consumer.drain()
    consumer.lose()
    consumer.got[0].ack()
    tables.execute(BACK_TO_READY)
    with Connection(consumer.url) as other:
        other.default_channel.basic_get(QUEUE).ack()
    assert count(tables, "message") == 0
    with caplog.at_level(logging.WARNING):
        consumer.find()
        eventually(lambda: "(task task-1) was undone by a crash of the server" in caplog.text)
    assert "(task task-1) came too late" in caplog.text


def test_acknowledgement_whose_answer_was_lost(
    consumer: Consumer, tables: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It had reached the server, so it is not too late when it is sent again."""
    consumer.consume()
    consumer.publish()
    consumer.drain()
    consumer.drain_until(lambda: not consumer.intake.session.busy)
    consumer.proxy.backward.clear()
    consumer.got[0].ack()
    eventually(lambda: count(tables, "unacked") == 0)
    with caplog.at_level(logging.WARNING):
        consumer.lose()
        consumer.proxy.backward.set()
        consumer.find()
        consumer.publish(b"next")
        consumer.drain_until(lambda: len(consumer.got) == 2)
    assert "too late" not in caplog.text
    assert "undone" not in caplog.text


def test_release_that_a_crash_undid(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """What had been given back is given back again."""
    consumer.publish()
    message = consumer.channel.basic_get(QUEUE)
    tables.execute("CREATE TABLE kept_unacked AS TABLE celery.unacked")
    message.requeue()
    eventually(lambda: count(tables, "ready") == 1)
    consumer.lose()
    tables.execute("DELETE FROM celery.ready")
    tables.execute("INSERT INTO celery.unacked TABLE kept_unacked")
    consumer.find()
    assert count(tables, "ready") == 1
    assert count(tables, "unacked") == 0


def test_declared_dead_meanwhile(
    consumer: Consumer, tables: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What it held is another's by now: it is told to begin anew."""
    consumer.consume()
    consumer.publish()
    consumer.drain()
    consumer.lose()
    tables.execute("DELETE FROM celery.consumer")
    consumer.proxy.forward.set()
    with caplog.at_level(logging.ERROR):
        eventually(lambda: consumer.intake.session.over)
        with pytest.raises(DatabaseUnavailable, match="declared dead"):
            consumer.drain()
    assert "was declared dead" in caplog.text
    with pytest.raises(DatabaseUnavailable, match=r"cannot be settled"):
        consumer.got[0].ack()


def test_old_session_is_ended_first(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """The server may not have noticed, and a session that lives on could commit a claim of ours later."""
    consumer.consume()
    old = consumer.intake.session.backend_pid
    consumer.proxy.vanish()
    session = consumer.intake.session
    eventually(lambda: not session.away and session.backend_pid != old)
    assert not tables.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (old,)).fetchall()
    consumer.publish()
    consumer.drain()


def test_subscriptions_are_what_they_should_be(consumer: Consumer, tables: psycopg.Connection[Any]) -> None:
    """One that got lost is entered again, one that ended meanwhile is not there."""
    consumer.consume()
    consumer.channel.queue_declare("second", durable=True, auto_delete=False)
    consumer.channel.basic_consume("second", consumer_tag="second", callback=consumer.got.append)
    consumer.lose()
    tables.execute("DELETE FROM celery.consumer_queue WHERE tag NOT LIKE '%second'")
    consumer.channel.basic_cancel("second")
    consumer.find()
    query = "SELECT name FROM celery.consumer_queue JOIN celery.queue ON id = queue_id"
    assert tables.execute(query).fetchall() == [(QUEUE,)]
    consumer.publish()
    consumer.drain()


def test_commands_published_meanwhile_are_read(consumer: Consumer) -> None:
    """The place in the broadcast log is kept."""
    channel = consumer.channel
    channel.exchange_declare("all", "fanout")
    channel.queue_declare("mine", exclusive=True)
    channel.queue_bind("mine", "all")
    channel.basic_consume("mine", no_ack=True, callback=consumer.got.append)
    consumer.lose()
    with Connection(consumer.url) as publisher:
        message = publisher.default_channel.prepare_message(b"command", content_type="text/plain")
        publisher.default_channel.basic_publish(message, exchange="all", routing_key="")
    consumer.find()
    consumer.drain()
    assert [message.body for message in consumer.got] == [b"command"]


@pytest.mark.parametrize("interruption", [DatabaseUnavailable("cut"), KeyboardInterrupt()], ids=type)
def test_session_that_is_lost_while_an_answer_is_read(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch, interruption: BaseException
) -> None:
    """What else was answered is as if its answer had been lost: the next session does all of it."""
    channel = consumer.channel
    channel.queue_declare(CONTROL, durable=False, exclusive=True, auto_delete=True)
    channel.basic_consume(CONTROL, no_ack=True, callback=consumer.got.append)
    consumer.consume()
    consumer.publish(b"first")
    consumer.drain_until(lambda: consumer.got)
    (held,) = channel.qos.settle(consumer.got.pop().delivery_tag)
    with interrupted_bells(consumer.intake, monkeypatch, interruption) as struck, suppress(KeyboardInterrupt):
        consumer.intake.release([held])
        consumer.intake._reader.due = True
        for source in consumer.intake._roster.sources:
            source.look = True
        consumer.drain_until(lambda: struck)
    consumer.publish(b"second")
    consumer.drain_until(lambda: len(consumer.got) == 2)
    assert [message.body for message in consumer.got] == [b"first", b"second"]


@contextmanager
def interrupted_bells(
    intake: Intake, monkeypatch: pytest.MonkeyPatch, interruption: BaseException
) -> Iterator[list[BaseException]]:
    """The session ends, or a signal comes, when a bell is to be rung in the middle of what was answered."""
    struck: list[BaseException] = []

    def ring(*_: Any, **__: Any) -> None:
        struck.append(interruption)
        if isinstance(interruption, DatabaseUnavailable):
            intake.session._session.give_up("cut")
        raise interruption

    with monkeypatch.context() as patch:
        patch.setattr(intake._bell, "ring", ring, raising=False)
        yield struck


def test_consumer_that_is_cancelled_in_the_middle_of_the_recovery(
    consumer: Consumer, tables: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its subscription has been listed by then, and is ended all the same."""
    tag = consumer.channel.basic_consume(QUEUE, callback=consumer.got.append)
    reconcile = recovery.reconcile

    def cancel(*arguments: Any) -> Any:
        consumer.channel.basic_cancel(tag)
        return reconcile(*arguments)

    monkeypatch.setattr(recovery, "reconcile", cancel)
    consumer.lose()
    consumer.find()
    eventually(lambda: count(tables, "consumer_queue") == 0)
