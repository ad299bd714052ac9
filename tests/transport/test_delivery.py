"""Delivering messages and settling them."""

from __future__ import annotations

import socket
import statistics
import time
from typing import Any

import psycopg
import pytest
from kombu import Consumer, Producer, Queue

from celery_postgres import subscription
from tests.fixtures.broker import count_rows
from tests.fixtures.waiting import PATIENCE_S, eventually

from .inbox import Inbox, bodies_of, size

RESTORED = "what is given back becomes a copy at another place of the queue"


def test_messages_arrive_in_the_order_of_publishing(new_queue, publish, channel):
    """One publisher, one consumer, one priority: first in, first out."""
    queue = new_queue()
    publish(queue, *range(100))
    with Inbox(channel, queue) as inbox:
        assert inbox.take_bodies(100) == list(range(100))


def test_waiting_consumer_gets_what_is_published(new_queue, publish, channel):
    """A message wakes a consumer that waits, at once."""
    queue = new_queue()
    with Inbox(channel, queue) as inbox:
        took = []
        for _ in range(5):
            inbox.stays_empty()
            began = time.monotonic()
            publish(queue, "wake")
            assert inbox.take_bodies(1) == ["wake"]
            took.append(time.monotonic() - began)
        assert statistics.median(took) < 0.5


def test_drain_events_times_out_when_nothing_comes(new_queue, channel, connection):
    """The timeout is kept, and raises what kombu's users catch."""
    with Inbox(channel, new_queue()):
        began = time.monotonic()
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0.5)
        assert 0.45 < time.monotonic() - began < 20


class TestGet:
    """`Queue.get`: one message, without a consumer."""

    def test_takes_one_at_a_time(self, new_queue, publish):
        """Each call gives the next message, and None at the end."""
        queue = new_queue()
        publish(queue, 1, 2)
        assert bodies_of(queue, 2) == [1, 2]
        assert queue.get() is None

    @pytest.mark.differs(redis=RESTORED)
    def test_holds_until_acknowledged(self, new_queue, publish, connection):
        """A message that was got and not acknowledged returns when its channel closes."""
        queue = new_queue()
        publish(queue, 1)
        channel = connection.channel()
        message = queue(channel).get()
        assert message.delivery_info["redelivered"] is False
        assert queue.get() is None
        channel.close()
        eventually(lambda: size(queue) == 1)
        again = queue.get()
        assert again.payload == 1
        again.ack()

    def test_without_ack_it_is_gone(self, new_queue, publish, connection):
        """`no_ack` settles at delivery."""
        queue = new_queue()
        publish(queue, 1)
        channel = connection.channel()
        assert queue(channel).get(no_ack=True).payload == 1
        channel.close()
        assert size(queue) == 0
        assert queue.get() is None


class TestSettle:
    """Ack, reject and requeue."""

    def test_ack_removes(self, new_queue, publish, broker):
        """An acknowledged message is not delivered again, even after the connection has closed."""
        queue = new_queue()
        publish(queue, 1)
        with broker.connection() as connection, Inbox(connection.channel(), queue) as inbox:
            inbox.take(1)[0].ack()
        assert size(queue) == 0

    @pytest.mark.differs(redis="acknowledges the one message only")
    def test_ack_multiple_settles_everything_before(self, new_queue, publish, connection):
        """`multiple` acknowledges the message and all that were delivered before it on the channel."""
        queue = new_queue()
        publish(queue, *range(5))
        channel = connection.channel()
        with Inbox(channel, queue) as inbox:
            messages = inbox.take(5)
            messages[2].ack(multiple=True)
        channel.close()
        eventually(lambda: size(queue) == 2)
        assert bodies_of(queue, 2) == [3, 4]

    @pytest.mark.differs(redis=RESTORED)
    def test_requeue_returns_it_to_its_place(self, new_queue, publish):
        """The message keeps its place before later ones and is marked as redelivered."""
        queue = new_queue()
        publish(queue, 1, 2, 3)
        first = queue.get()
        assert first.delivery_info["redelivered"] is False
        first.requeue()
        again = queue.get(no_ack=True)
        assert again.payload == 1
        assert again.delivery_info["redelivered"] is True
        assert bodies_of(queue, 2) == [2, 3]

    @pytest.mark.differs(redis="adds a header")
    def test_requeue_keeps_the_message_as_it_was(self, new_queue, publish):
        """Headers, properties and body survive."""
        queue = new_queue()
        publish(queue, {"k": "v"}, headers={"h": [1]}, correlation_id="c", reply_to="r", priority=3)
        first = queue.get()
        first.requeue()
        again = queue.get(no_ack=True)
        assert (again.payload, again.headers) == (first.payload, first.headers)
        for key in ("correlation_id", "reply_to", "priority", "delivery_mode"):
            assert again.properties[key] == first.properties[key]

    def test_requeued_message_reaches_another_consumer(self, new_queue, publish, channel, other_connection):
        """What one consumer gives back, another one may have."""
        queue = new_queue()
        publish(queue, 1)
        with Inbox(channel, queue, prefetch_count=1) as first:
            (message,) = first.take(1)
        message.requeue()
        with Inbox(other_connection.channel(), queue) as second:
            assert second.take_bodies(1) == [1]

    def test_reject_removes(self, new_queue, publish):
        """Without requeue and without a dead-letter exchange, the message is gone."""
        queue = new_queue()
        publish(queue, 1, 2)
        queue.get().reject()
        assert bodies_of(queue, 1) == [2]
        assert size(queue) == 0

    def test_messages_are_settled_in_any_order(self, new_queue, publish, connection):
        """Every message has an outcome of its own."""
        queue = new_queue()
        publish(queue, *range(6))
        channel = connection.channel()
        with Inbox(channel, queue) as inbox:
            messages = inbox.take(6)
            for number in (5, 0, 3):
                messages[number].ack()
            messages[2].reject()
        channel.close()
        eventually(lambda: size(queue) == 2)
        assert sorted(bodies_of(queue, 2)) == [1, 4]


class TestGiveBack:
    """What a consumer leaves behind."""

    @pytest.mark.differs(redis=RESTORED)
    def test_closing_the_channel_returns_the_unacknowledged(self, new_queue, publish, connection):
        """All of them, in their order, marked as redelivered."""
        queue = new_queue()
        publish(queue, 1, 2, 3)
        channel = connection.channel()
        with Inbox(channel, queue) as inbox:
            inbox.take(3)
        channel.close()
        eventually(lambda: size(queue) == 3)
        messages = [queue.get(no_ack=True) for _ in range(3)]
        assert [message.payload for message in messages] == [1, 2, 3]
        assert all(message.delivery_info["redelivered"] for message in messages)

    def test_closing_the_connection_returns_the_unacknowledged(self, new_queue, publish, broker):
        """The same when the whole connection goes."""
        queue = new_queue()
        publish(queue, 1, 2)
        with broker.connection() as connection:
            inbox = Inbox(connection.channel(), queue)
            inbox.consumer.consume()
            inbox.take(2)
            assert size(queue) == 0
        eventually(lambda: size(queue) == 2)

    def test_cancelling_loses_nothing(self, new_queue, publish, broker):
        """What was under way to a consumer that cancels is still there for the next."""
        queue = new_queue()
        publish(queue, *range(50))
        with (
            broker.connection() as connection,
            Inbox(connection.channel(), queue, prefetch_count=10) as inbox,
        ):
            assert inbox.take_bodies(1) == [0]
        eventually(lambda: size(queue) == 49)
        assert sorted(bodies_of(queue, 49)) == list(range(1, 50))

    @pytest.mark.differs(redis=RESTORED)
    def test_recover_delivers_again(self, new_queue, publish, connection):
        """`basic_recover` gives everything unacknowledged of the channel back to the queue."""
        queue = new_queue()
        publish(queue, 1, 2)
        channel = connection.channel()
        with Inbox(channel, queue) as inbox:
            inbox.take(2)
            inbox.consumer.recover(requeue=True)
            again = inbox.take(2)
            assert [message.payload for message in again] == [1, 2]
            assert all(message.delivery_info["redelivered"] for message in again)
            for message in again:
                message.ack()
        channel.close()
        assert size(queue) == 0


class TestPrefetch:
    """How many messages a consumer holds."""

    def test_is_not_exceeded(self, new_queue, publish, channel):
        """With a window of two, the third message waits for an acknowledgement."""
        queue = new_queue()
        publish(queue, *range(5))
        with Inbox(channel, queue, prefetch_count=2) as inbox:
            first, second = inbox.take(2)
            inbox.stays_empty()
            assert size(queue) == 3
            second.ack()
            (third,) = inbox.take(1)
            assert third.payload == 2
            inbox.stays_empty()
            first.ack()
            third.ack()
            assert inbox.take_bodies(2) == [3, 4]

    def test_can_be_changed(self, new_queue, publish, channel, connection):
        """A larger window takes effect at once."""
        queue = new_queue()
        publish(queue, *range(5))
        whole_channel = not connection.qos_semantics_matches_spec  # as Celery asks
        inbox = Inbox(channel, queue)
        inbox.consumer.qos(prefetch_count=1, apply_global=whole_channel)
        with inbox:
            inbox.take(1)
            inbox.consumer.qos(prefetch_count=3, apply_global=whole_channel)
            inbox.take(2)
            inbox.stays_empty()

    def test_leaves_the_rest_to_others(self, new_queue, publish, channel, other_connection):
        """What does not fit into one consumer's window goes to another consumer."""
        queue = new_queue()
        publish(queue, *range(4))
        with Inbox(channel, queue, prefetch_count=2) as one:
            held = one.take(2)
            with Inbox(other_connection.channel(), queue, prefetch_count=2) as two:
                assert [message.payload for message in held + two.take(2)] == [0, 1, 2, 3]

    @pytest.mark.ours("how many bytes are claimed ahead")
    def test_without_a_window_memory_is_bounded(self, new_queue, publish, channel, broker, monkeypatch):
        """Fewer large messages than small ones wait for their callbacks; all of them arrive."""
        monkeypatch.setattr(subscription, "BYTES_AHEAD", 50_000)
        queue = new_queue()
        publish(queue, *["x" * 10_000] * 60)
        already = count_rows(broker.url, "unacked")
        ahead: list[int] = []

        def on_message(message: Any) -> None:
            ahead.append(count_rows(broker.url, "unacked") - already - len(ahead))

        with Consumer(channel, [queue], on_message=on_message):
            while len(ahead) < 60:
                channel.connection.client.drain_events(timeout=20)
        assert max(ahead) == subscription.FIRST_CLAIM
        assert 1 <= max(ahead[subscription.FIRST_CLAIM :]) <= 5


class TestConsumers:
    """Several consumers on one channel."""

    def test_queues_are_served_fairly(self, new_queue, publish, channel):
        """A long queue does not keep a short one waiting."""
        long, short = new_queue(), new_queue()
        publish(long, *["long"] * 60)
        publish(short, *["short"] * 10)
        with Inbox(channel, long, short, prefetch_count=4) as inbox:
            bodies = inbox.take_bodies(70)
        assert bodies.index("short") < 30
        assert bodies.count("short") == 10
        last = len(bodies) - 1 - bodies[::-1].index("short")
        assert last < 60, "the short queue was served after the long one"

    @pytest.mark.differs(redis="one callback for each queue: the second consumer replaces the first")
    def test_one_queue_has_several_consumers(self, new_queue, publish, channel):
        """Two consumers of one queue share its messages; cancelling one leaves the other."""
        queue = new_queue()
        with Inbox(channel, queue) as one, Inbox(channel, queue) as two:
            publish(queue, *range(10))
            deadline = time.monotonic() + PATIENCE_S
            while len(one.messages) + len(two.messages) < 10 and time.monotonic() < deadline:
                one._drain(deadline)
            assert one.messages
            assert two.messages
            bodies = [message.payload for message in one.messages + two.messages]
            assert sorted(bodies) == list(range(10))
            for message in one.messages + two.messages:
                message.ack()
            two.messages.clear()
            one.consumer.cancel()
            publish(queue, "left")
            assert two.take_bodies(1) == ["left"]

    def test_no_ack_consumer_settles_at_delivery(self, new_queue, publish, broker):
        """Nothing returns when a consumer without acks goes."""
        queue = new_queue()
        publish(queue, *range(3))
        with broker.connection() as connection, Inbox(connection.channel(), queue, no_ack=True) as inbox:
            inbox.take(3)
        assert size(queue) == 0
        assert queue.get() is None

    def test_queues_are_added_and_cancelled_while_consuming(self, new_queue, publish, channel):
        """As a worker does for `add_consumer` and `cancel_consumer`."""
        first, second = new_queue(), new_queue()
        with Inbox(channel, first) as inbox:
            inbox.consumer.add_queue(second)
            inbox.consumer.consume()
            publish(second, "second")
            assert inbox.take_bodies(1) == ["second"]
            inbox.consumer.cancel_by_queue(first.name)
            publish(first, "unseen")
            publish(second, "seen")
            assert inbox.take_bodies(1) == ["seen"]
            assert size(first) == 1

    def test_callback_may_publish(self, new_queue, channel, connection, publish):
        """Publishing on the consuming channel from inside a callback works."""
        queue, onward = new_queue(), new_queue()
        seen: list[int] = []

        def forward(body: int, message) -> None:
            Producer(message.channel).publish(body + 1, routing_key=onward.name)
            message.ack()
            seen.append(body)

        publish(queue, 1)
        with Consumer(channel, [queue], callbacks=[forward]):
            deadline = time.monotonic() + PATIENCE_S
            while not seen and time.monotonic() < deadline:
                connection.drain_events(timeout=20)
        assert bodies_of(onward, 1) == [2]


@pytest.mark.differs(redis="headers are in the message, which is JSON")
@pytest.mark.parametrize(
    "value", [{"__type__": "span", "__value__": "x"}, {"__type__": "datetime", "__value__": "x"}]
)
def test_header_that_looks_like_a_value_of_kombus(new_queue, connection, value):
    """Whoever may publish could otherwise end every worker of the queue."""
    queue = new_queue()
    Producer(connection.channel()).publish(1, routing_key=queue.name, headers={"trace": value})
    assert queue.get(no_ack=True).headers["trace"] == value


@pytest.mark.ours("claims and locks are ours")
def test_lock_that_is_in_the_way_of_a_consumer(fresh_broker):
    """It passes: an error of the connection, after which Celery's worker tries again."""
    with (
        fresh_broker.connection(transport_options={"lock_timeout": 0.2}) as connection,
        psycopg.connect(fresh_broker.url) as holder,
    ):
        queue = Queue("q")(connection.channel())
        queue.declare()
        inbox = Inbox(connection.channel(), queue)
        holder.execute("LOCK celery.consumer_queue IN SHARE MODE")
        with pytest.raises(connection.connection_errors, match="lock timeout"):
            inbox.consumer.consume()
