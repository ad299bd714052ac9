"""Messages and queues that live for a limited time, and queues of a limited length."""

from __future__ import annotations

import time

import pytest

from tests.fixtures.waiting import eventually

from .inbox import Inbox, bodies_of, missing, size

pytestmark = pytest.mark.differs(redis="nothing expires and no queue is limited")


class TestMessageTtl:
    """`expiration` of a message, `x-message-ttl` of a queue."""

    def test_message_expires(self, new_queue, publish):
        """After its time a message is not delivered, and does not count."""
        queue = new_queue()
        publish(queue, "short", expiration=2)
        assert size(queue) == 1
        eventually(lambda: size(queue) == 0)
        assert queue.get() is None

    def test_queue_gives_its_messages_a_time(self, new_queue, publish):
        """`x-message-ttl` holds for everything in the queue."""
        queue = new_queue(message_ttl=2)
        publish(queue, 1, 2)
        assert size(queue) == 2
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

    def test_delivered_message_does_not_expire(self, new_queue, publish, channel):
        """Once a consumer holds it, time no longer matters."""
        queue = new_queue()
        with Inbox(channel, queue) as inbox:
            publish(queue, "held", expiration=1)
            (message,) = inbox.take(1)
            inbox.stays_empty(1.2)
            message.ack()
            assert message.payload == "held"
        assert size(queue) == 0

    def test_returned_message_keeps_its_deadline(self, new_queue, publish, connection):
        """A message that comes back after its time is gone."""
        queue = new_queue()
        with Inbox(connection.channel(), queue) as inbox:
            publish(queue, "held", expiration=1)
            (message,) = inbox.take(1)
            inbox.stays_empty(1.2)
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

    def test_unused_queue_goes_and_consumed_one_stays(self, new_queue, connection, channel):
        """A consumer is use; without one the queue is gone after its time."""
        unused, used = new_queue(expires=0.4), new_queue(expires=0.4)
        with Inbox(channel, used) as inbox:
            inbox.stays_empty(1.2)
            assert missing(connection, unused.name)
            assert not missing(connection, used.name)

    def test_messages_do_not_keep_it(self, new_queue, publish, connection):
        """Publishing is not use: the queue goes with its messages."""
        queue = new_queue(expires=0.4)
        publish(queue, 1, 2)
        time.sleep(1.0)
        assert missing(connection, queue.name)
        queue.declare()
        assert size(queue) == 0

    def test_declaring_and_getting_is_use(self, new_queue, connection):
        """Each of them starts the time again."""
        queue = new_queue(expires=0.9)
        for _ in range(2):
            time.sleep(0.5)
            queue.declare()
            time.sleep(0.5)
            assert queue.get() is None
        assert not missing(connection, queue.name)

    def test_time_begins_again_when_the_last_consumer_goes(self, new_queue, connection, channel):
        """The queue outlives its consumer by its time, and no longer."""
        queue = new_queue(expires=0.5)
        with Inbox(channel, queue) as inbox:
            inbox.stays_empty(0.8)
        assert not missing(connection, queue.name)
        time.sleep(1.2)
        assert missing(connection, queue.name)


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
