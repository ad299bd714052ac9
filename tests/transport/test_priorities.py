"""Priorities in AMQP's order: the highest number first."""

from __future__ import annotations

import random

import pytest
from kombu import Producer

from .inbox import Inbox, bodies_of

pytestmark = pytest.mark.differs(redis="the lowest number first, in four steps from 0 to 9")


def test_every_priority_from_0_to_255(new_queue, publish):
    """The higher one goes first, whatever the order of publishing."""
    queue = new_queue(max_priority=255)
    priorities = list(range(256))
    random.Random(1).shuffle(priorities)
    for priority in priorities:
        publish(queue, priority, priority=priority)
    assert bodies_of(queue, 256) == list(range(255, -1, -1))


def test_first_in_first_out_inside_a_priority(new_queue, publish):
    """Messages of equal priority keep their order."""
    queue = new_queue(max_priority=10)
    sent = [(number, random.Random(number).choice([0, 3, 9])) for number in range(60)]
    for number, priority in sent:
        publish(queue, [number, priority], priority=priority)
    expected = sorted(sent, key=lambda item: (-item[1], item[0]))
    assert bodies_of(queue, 60) == [list(item) for item in expected]


def test_late_urgent_message_overtakes(new_queue, publish, channel):
    """What arrives later with a higher priority goes before what already waits."""
    queue = new_queue(max_priority=10)
    publish(queue, "a", "b", priority=1)
    with Inbox(channel, queue, prefetch_count=1) as inbox:
        (first,) = inbox.take(1)
        publish(queue, "urgent", priority=9)
        first.ack()
        assert inbox.take_bodies(2) == ["urgent", "b"]


def test_no_priority_is_the_lowest(new_queue, publish):
    """A message without a priority is served like priority 0."""
    queue = new_queue(max_priority=10)
    publish(queue, "none", priority=None)
    publish(queue, "zero", priority=0)
    publish(queue, "one", priority=1)
    assert bodies_of(queue, 3) == ["one", "none", "zero"]


def test_priority_is_capped_by_the_queue(new_queue, publish):
    """Above `x-max-priority` all are equal."""
    queue = new_queue(max_priority=5)
    publish(queue, "low", priority=4)
    publish(queue, "five", priority=5)
    publish(queue, "nine", priority=9)
    publish(queue, "huge", priority=255)
    assert bodies_of(queue, 4) == ["five", "nine", "huge", "low"]


def test_priority_is_delivered_as_published(new_queue, publish):
    """The consumer sees the publisher's number, capped or not."""
    queue = new_queue(max_priority=5)
    publish(queue, 1, priority=9)
    assert queue.get(no_ack=True).properties["priority"] == 9


def test_requeued_message_keeps_its_priority(new_queue, publish):
    """It returns to its place among those of its priority."""
    queue = new_queue(max_priority=10)
    publish(queue, "high", "high too", priority=9)
    publish(queue, "low", priority=1)
    queue.get().requeue()
    assert bodies_of(queue, 3) == ["high", "high too", "low"]


@pytest.mark.ours("the order of another transport, as an option")
def test_order_of_redis_is_an_option(broker, new_queue):
    """With `priority_order` redis the lowest number goes first."""
    queue = new_queue(max_priority=10)
    options = {"priority_order": "redis"}
    with broker.connection(transport_options=options) as connection:
        redis_like = queue(connection.channel())
        for priority in (3, 9, 0, 6):
            Producer(redis_like.channel).publish(priority, routing_key=queue.name, priority=priority)
        assert bodies_of(redis_like, 4) == [0, 3, 6, 9]
