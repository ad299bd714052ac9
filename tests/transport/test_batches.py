"""`Producer.batch()`: many messages at once, or none."""

from __future__ import annotations

import itertools
import statistics
import time

import psycopg
import pytest
from kombu import Exchange, Producer
from kombu.exceptions import BatchPublishError

from .inbox import Inbox, bodies_of, size

pytestmark = pytest.mark.differs(amqp="published immediately")


def test_support_is_announced(connection, producer, channel):
    """Applications ask before they rely on it."""
    assert producer.supports_batch_publish
    assert connection.transport.implements.batch_publish


def test_nothing_is_seen_before_the_end(producer, new_queue):
    """The messages appear together, in their order."""
    queue = new_queue()
    with producer.batch():
        for number in range(50):
            producer.publish(number, routing_key=queue.name)
        assert size(queue) == 0
    assert size(queue) == 50
    assert bodies_of(queue, 50) == list(range(50))


def test_exception_discards(producer, new_queue):
    """What was not flushed is never published; the producer stays usable."""
    queue = new_queue()
    with pytest.raises(ZeroDivisionError), producer.batch():  # noqa: PT012
        producer.publish(1, routing_key=queue.name)
        raise ZeroDivisionError
    assert size(queue) == 0
    producer.publish(2, routing_key=queue.name)
    assert bodies_of(queue, 1) == [2]


def test_flush_publishes_so_far(producer, new_queue):
    """What was flushed stays, whatever comes after."""
    queue = new_queue()
    with pytest.raises(ZeroDivisionError), producer.batch() as batch:  # noqa: PT012
        producer.publish(1, routing_key=queue.name)
        batch.flush()
        assert size(queue) == 1
        producer.publish(2, routing_key=queue.name)
        raise ZeroDivisionError
    assert bodies_of(queue, 1) == [1]
    assert size(queue) == 0


def test_full_batch_flushes_itself(producer, new_queue):
    """`max_size` bounds the memory of the publisher."""
    queue = new_queue()
    with producer.batch(max_size=10):
        for number in range(25):
            producer.publish(number, routing_key=queue.name)
        assert size(queue) == 20
    assert bodies_of(queue, 25) == list(range(25))


def test_nested_batch_belongs_to_the_outer(producer, new_queue):
    """Leaving the inner one publishes nothing."""
    queue = new_queue()
    with producer.batch():
        with producer.batch():
            producer.publish(1, routing_key=queue.name)
        assert size(queue) == 0
    assert bodies_of(queue, 1) == [1]


def test_empty_batch_is_fine(producer):
    """Nothing to publish is no error."""
    with producer.batch() as batch:
        batch.flush()


@pytest.mark.differs(redis="fanout reaches only those who consume at that moment")
def test_messages_are_routed_each_on_its_own(producer, new_queue, new_name):
    """Several exchanges and queues in one batch, also several copies of one message."""
    fanout, direct = Exchange(new_name(), type="fanout"), Exchange(new_name(), type="direct")
    first, second = new_queue(exchange=fanout), new_queue(exchange=fanout)
    third = new_queue(exchange=direct, routing_key="k")
    plain = new_queue()
    held = [Inbox(queue.channel, queue) for queue in (first, second, third, plain)]
    with producer.batch():
        producer.publish("both", exchange=fanout)
        producer.publish("k", exchange=direct, routing_key="k")
        producer.publish("plain", routing_key=plain.name)
        producer.publish("nowhere", exchange=direct, routing_key="other")
    for inbox, expected in zip(held, ("both", "both", "k", "plain"), strict=True):
        with inbox:
            assert inbox.take_bodies(1) == [expected]


def test_waiting_consumer_is_woken(producer, new_queue, channel):
    """A batch rings like a single message."""
    queue = new_queue()
    with Inbox(channel, queue) as inbox:
        took = []
        for _ in range(5):
            inbox.stays_empty()
            began = time.monotonic()
            with producer.batch():
                for number in range(5):
                    producer.publish(number, routing_key=queue.name)
            assert inbox.take_bodies(5) == list(range(5))
            took.append(time.monotonic() - began)
        assert statistics.median(took) < 0.5


@pytest.mark.differs(redis="the lowest priority first, and nothing expires")
def test_priorities_and_expiration_hold(producer, new_queue):
    """A batch changes how messages travel, not what they are."""
    queue = new_queue(max_priority=10)
    with producer.batch():
        for number, priority in enumerate([1, 9, 5]):
            producer.publish(number, routing_key=queue.name, priority=priority, headers={"n": number})
        producer.publish("late", routing_key=queue.name, priority=9, expiration=0)
    messages = [queue.get(no_ack=True) for _ in range(3)]
    assert [message.payload for message in messages] == [1, 2, 0]
    assert [message.headers["n"] for message in messages] == [1, 2, 0]
    assert queue.get() is None


@pytest.mark.ours("one transaction is what the others do not have")
class TestOneTransaction:
    """All of a batch, or nothing of it."""

    def test_failing_message_takes_all_along(self, producer, new_queue, new_name):
        """One message that is refused: none is stored, also of those before it."""
        queue = new_queue()
        with pytest.raises(Exception, match="exchange") as caught, producer.batch():  # noqa: PT012
            producer.publish(1, routing_key=queue.name)
            producer.publish(2, exchange=new_name(), routing_key="k")
            producer.publish(3, routing_key=queue.name)
        assert isinstance(caught.value, BatchPublishError) or getattr(caught.value, "code", None) == 404
        assert size(queue) == 0
        producer.publish(4, routing_key=queue.name)
        assert bodies_of(queue, 1) == [4]

    def test_others_see_all_at_once(self, broker, producer, new_queue):
        """Somebody who counts meanwhile sees nothing or everything."""
        queue = new_queue()
        with broker.connection() as connection:
            watcher = queue(connection.channel())
            with producer.batch():
                for number in range(500):
                    producer.publish(number, routing_key=queue.name)
                assert size(watcher) == 0
            assert size(watcher) == 500

    def test_lost_session_is_an_error(self, broker, new_queue):
        """A batch whose outcome is unknown is not sent again by itself."""
        queue = new_queue()
        with broker.connection() as connection, psycopg.connect(broker.url, autocommit=True) as admin:
            producer = Producer(connection.channel())
            lost = (BatchPublishError, *connection.connection_errors)
            with pytest.raises(lost), producer.batch():  # noqa: PT012
                producer.publish(1, routing_key=queue.name)
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        assert broker.waiting(queue.name) == 0


def test_batches_follow_each_other(producer, new_queue):
    """The order holds across batches and single messages."""
    queue = new_queue()
    numbers = itertools.count()
    for _ in range(3):
        with producer.batch():
            for _ in range(7):
                producer.publish(next(numbers), routing_key=queue.name)
        producer.publish(next(numbers), routing_key=queue.name)
    assert bodies_of(queue, 24) == list(range(24))
