"""Messages and queues that live for a limited time, and queues of a limited length."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.fixtures.waiting import eventually

from .inbox import Inbox, bodies_of, missing, size

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu import Queue

    from tests.fixtures.broker import Broker

pytestmark = pytest.mark.differs(redis="nothing expires and no queue is limited")


@pytest.fixture
def life(broker: Broker) -> float:
    """Seconds for which something lives: longer than any test, where its time can be made to pass."""
    return 600.0 if broker.ours else 1.0


@pytest.fixture
def age(broker: Broker) -> Callable[[Queue, float], None]:
    """Lets seconds pass for a queue and its messages: in their rows, where there are any."""

    def age(queue: Queue, seconds: float) -> None:
        if not broker.ours:
            time.sleep(seconds)
            return
        earlier = (seconds, queue.name)
        with psycopg.connect(broker.url, autocommit=True) as database:
            database.execute(
                "UPDATE celery.queue SET used_at = used_at - %s * interval '1 s' WHERE name = %s", earlier
            )
            database.execute(
                "UPDATE celery.message SET expires_at = expires_at - %s * interval '1 s'"
                " WHERE queue_id = (SELECT id FROM celery.queue WHERE name = %s)",
                earlier,
            )

    return age


class TestMessageTtl:
    """`expiration` of a message, `x-message-ttl` of a queue."""

    def test_message_expires(self, new_queue, publish, life, age):
        """After its time a message is not delivered, and does not count."""
        queue = new_queue()
        publish(queue, "short", expiration=life)
        assert size(queue) == 1
        age(queue, 1.1 * life)
        eventually(lambda: size(queue) == 0)
        assert queue.get() is None

    def test_queue_gives_its_messages_a_time(self, new_queue, publish, life, age):
        """`x-message-ttl` holds for everything in the queue."""
        queue = new_queue(message_ttl=life)
        publish(queue, 1, 2)
        assert size(queue) == 2
        age(queue, 1.1 * life)
        eventually(lambda: size(queue) == 0)
        assert queue.get() is None

    @pytest.mark.parametrize(("of_message", "of_queue"), [(0.3, 60), (60, 0.3)])
    def test_shorter_time_counts(self, new_queue, publish, of_message, of_queue):
        """The lesser of the message's and the queue's time."""
        queue = new_queue(message_ttl=of_queue)
        publish(queue, 1, expiration=of_message)
        eventually(lambda: size(queue) == 0, timeout_s=30)

    def test_zero_reaches_a_waiting_consumer(self, new_queue, publish, channel):
        """With a time of zero a message is delivered at once or never."""
        queue = new_queue()
        publish(queue, "nobody waits", expiration=0)
        with Inbox(channel, queue) as inbox:
            inbox.stays_empty()

    def test_delivered_message_does_not_expire(self, new_queue, publish, channel, life, age):
        """Once a consumer holds it, time no longer matters."""
        queue = new_queue()
        with Inbox(channel, queue) as inbox:
            publish(queue, "held", expiration=life)
            (message,) = inbox.take(1)
            age(queue, 1.1 * life)
            inbox.stays_empty(1.2)
            message.ack()
            assert message.payload == "held"
        assert size(queue) == 0

    def test_returned_message_keeps_its_deadline(self, new_queue, publish, connection, life, age):
        """A message that comes back after its time is gone."""
        queue = new_queue()
        with Inbox(connection.channel(), queue) as inbox:
            publish(queue, "held", expiration=life)
            (message,) = inbox.take(1)
            age(queue, 1.1 * life)
            inbox.stays_empty()
        message.requeue()
        eventually(lambda: size(queue) == 0)
        assert queue.get() is None

    def test_others_are_not_affected(self, new_queue, publish):
        """Only the one whose time is over goes."""
        queue = new_queue()
        publish(queue, "short", expiration=0.2)
        publish(queue, "long", expiration=60)
        publish(queue, "unlimited")
        eventually(lambda: size(queue) == 2)
        assert bodies_of(queue, 2) == ["long", "unlimited"]


class TestQueueExpiry:
    """`x-expires`: a queue that nobody uses goes."""

    def test_unused_queue_goes_and_consumed_one_stays(self, new_queue, connection, channel, life, age):
        """A consumer is use; without one the queue is gone after its time."""
        unused, used = new_queue(expires=life), new_queue(expires=life)
        with Inbox(channel, used) as inbox:
            for queue in (unused, used):
                age(queue, 1.1 * life)
            inbox.stays_empty(1.2)
            assert missing(connection, unused.name)
            assert not missing(connection, used.name)

    def test_messages_do_not_keep_it(self, new_queue, publish, connection, life, age):
        """Publishing is not use: the queue goes with its messages."""
        queue = new_queue(expires=life)
        age(queue, 0.6 * life)
        publish(queue, 1, 2)
        age(queue, 0.6 * life)
        eventually(lambda: missing(connection, queue.name))
        queue.declare()
        assert size(queue) == 0

    def test_declaring_and_getting_is_use(self, new_queue, connection, life, age):
        """Each of them starts the time again."""
        queue = new_queue(expires=life)
        for _ in range(2):
            age(queue, 0.6 * life)
            queue.declare()
            age(queue, 0.6 * life)
            assert queue.get() is None
        assert not missing(connection, queue.name)

    def test_time_begins_again_when_the_last_consumer_goes(self, new_queue, connection, channel, life, age):
        """The queue outlives its consumer by its time, and no longer."""
        queue = new_queue(expires=life)
        with Inbox(channel, queue) as inbox:
            age(queue, 1.1 * life)
            inbox.stays_empty()
        assert not missing(connection, queue.name)
        age(queue, 1.1 * life)
        eventually(lambda: missing(connection, queue.name))


class TestMaxLength:
    """`x-max-length`: the oldest go first."""

    def test_drops_from_the_head(self, new_queue, publish):
        """The newest messages are kept."""
        queue = new_queue(max_length=3)
        publish(queue, *range(5))
        assert size(queue) == 3
        assert bodies_of(queue, 3) == [2, 3, 4]

    def test_held_messages_do_not_count(self, new_queue, publish, channel):
        """Only what is ready is limited."""
        queue = new_queue(max_length=2)
        publish(queue, 1, 2)
        held = queue.get()
        publish(queue, 3)
        assert size(queue) == 2
        held.ack()
        assert bodies_of(queue, 2) == [2, 3]

    def test_zero_keeps_nothing(self, new_queue, publish):
        """A limit of zero without a waiting consumer drops everything."""
        queue = new_queue(queue_arguments={"x-max-length": 0})
        publish(queue, 1)
        assert size(queue) == 0

    def test_total_bytes_are_limited(self, new_queue, publish):
        """`x-max-length-bytes` counts the bodies."""
        queue = new_queue(max_length_bytes=3_500)
        for letter in "abcde":
            publish(queue, letter * 1_000)
        assert size(queue) == 3
        assert [body[0] for body in bodies_of(queue, 3)] == ["c", "d", "e"]
