"""Publishing is done once for each call, also when nobody knows whether it was done."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import pytest
from kombu import Connection, Producer, Queue
from kombu.exceptions import BatchPublishError

from celery_postgres import worker
from celery_postgres.errors import DatabaseRejected
from celery_postgres.sql import messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.proxy import Proxy

    from .hand import Hand

RETRY = {"max_retries": 3, "interval_start": 0, "interval_step": 0.1}


@pytest.fixture
def producer(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Producer]:
    """Publishes through a link that can be cut, to a queue `q`."""
    # A worker's process opens a lost session anew by itself; whether other tests made this one look like one
    # must not matter.
    monkeypatch.setattr(worker, "is_worker", lambda: False)
    with Connection(proxy.url) as connection:
        channel = connection.channel()
        Queue("q")(channel).declare()
        yield Producer(channel, routing_key="q")


def stored(key: uuid.UUID) -> tuple[object, ...]:
    return (key, "", "q", 0, None, None, None, None, None, "{}", "{}", b"x", None, "on")


class TestSameUuid:
    """Two sessions publish the same uuid, as a retry overtakes a publish of which nothing was heard."""

    def test_second_waits_and_stores_nothing(self, hand, other) -> None:
        """It learns where the message went all the same."""
        key = uuid.uuid4()
        queue = hand.queue("q")
        hand.begin()
        hand.publish("q", key=key)
        second = other.later(messages.PUBLISH_TO_QUEUE, *stored(key))
        hand.commit()
        assert second.result(5)[0][0] == queue
        assert (hand.count("message"), hand.count("ready")) == (1, 1)

    def test_second_stores_it_when_the_first_gives_up(self, hand, other) -> None:
        """Nothing is lost between the two."""
        key = uuid.uuid4()
        hand.queue("q")
        hand.begin()
        hand.publish("q", key=key)
        second = other.later(messages.PUBLISH_TO_QUEUE, *stored(key))
        hand.rollback()
        second.result(5)
        assert (hand.count("message"), hand.count("ready")) == (1, 1)


class TestUnknownOutcome:
    """The server committed, and its answer was lost."""

    def test_retry_stores_once(self, hand, proxy, producer) -> None:
        """`retry=True` publishes again over a new connection: one message."""
        proxy.cut_at_next_answer()
        producer.publish("x", retry=True, retry_policy=RETRY)
        assert proxy.answered.is_set()
        assert hand.count("message") == 1

    def test_retry_to_several_queues_stores_once_in_each(self, hand, proxy, producer) -> None:
        """The same for an exchange."""
        for name in ("a", "b"):
            Queue(name, routing_key="k", exchange="amq.topic")(producer.channel).declare()
        for name in ("a", "b"):
            producer.channel.queue_bind(name, "amq.topic", "k")
        proxy.cut_at_next_answer()
        producer.publish("x", exchange="amq.topic", routing_key="k", retry=True, retry_policy=RETRY)
        assert hand.count("message") == 2

    def test_without_retry_the_caller_hears_of_it(self, hand, proxy, producer) -> None:
        """An error that says that the connection was lost; what was stored stays."""
        proxy.cut_at_next_answer()
        with pytest.raises(producer.connection.connection_errors):
            producer.publish("x", retry=False)
        assert hand.count("message") == 1

    def test_deliberate_second_publish_stores_a_second(self, hand, proxy, producer) -> None:
        """Equal payloads and properties are two messages, also after a retry."""
        properties = {"correlation_id": "same", "message_id": "same"}
        proxy.cut_at_next_answer()
        producer.publish("x", retry=True, retry_policy=RETRY, **properties)
        producer.publish("x", retry=True, retry_policy=RETRY, **properties)
        assert hand.count("message") == 2

    def test_what_was_never_sent_is_stored_by_the_retry(self, hand, proxy, producer) -> None:
        """A link that was cut before the publish loses nothing."""
        proxy.cut()
        producer.publish("x", retry=True, retry_policy=RETRY)
        assert hand.count("message") == 1


class TestBatch:
    """One transaction, whatever happens to the link."""

    def test_answer_lost(self, hand, proxy, producer) -> None:
        """The caller learns that the outcome is unknown; here all was stored."""
        with pytest.raises(BatchPublishError), producer.batch():  # noqa: PT012
            for number in range(20):
                producer.publish(number)
            proxy.cut_at_next_answer()
        assert hand.count("message") == 20

    def test_cut_before(self, hand, proxy, producer) -> None:
        """Nothing was stored."""
        with pytest.raises(BatchPublishError), producer.batch():  # noqa: PT012
            for number in range(20):
                producer.publish(number)
            proxy.cut()
        assert hand.count("message") == 0

    def test_waits_for_a_lock_and_is_seen_as_a_whole(self, hand, other, producer) -> None:
        """Until it commits nobody sees a part of it."""
        with producer.batch():
            for number in range(200):
                producer.publish(number)
            assert hand.count("message") == 0
        assert hand.count("ready") == 200


def test_worker_waits_for_an_answer_to_a_command_for_half_a_second(
    url: str, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers inside its loop, over the connection that consumes; everybody else has `publish_timeout`."""
    monkeypatch.setattr(worker, "is_worker", lambda: True)
    with Connection(url) as connection:
        channel = connection.channel()
        queue = Queue("q")(channel)
        queue.declare()
        queue.consume(no_ack=True, callback=lambda _: None)
        hand.begin()
        hand.sql("LOCK TABLE celery.message IN SHARE MODE")
        begin = time.monotonic()
        with pytest.raises(DatabaseRejected):
            Producer(channel).publish("answer", routing_key="q", retry=False)
        assert worker.PATIENCE <= time.monotonic() - begin < 15
        hand.rollback()
