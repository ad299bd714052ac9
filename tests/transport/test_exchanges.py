"""Routing by direct, fanout and topic exchanges."""

from __future__ import annotations

import time

import pytest
from kombu import Exchange, Producer, Queue

from celery_postgres.errors import NoRoute

from .inbox import Inbox, bodies_of, refused, reply_code, size

LOCAL = "exchanges are known to the process only"


@pytest.fixture
def bound(new_queue):
    """Declares a queue that is bound to the exchange with one key."""
    return lambda exchange, key="": new_queue(exchange=exchange, routing_key=key)


def test_direct_delivers_to_equal_keys(producer, bound, new_name):
    """The routing key must be equal; every queue bound with it gets a copy."""
    exchange = Exchange(new_name(), type="direct")
    red, red_too, blue = (bound(exchange, key) for key in ("red", "red", "blue"))
    producer.publish("r", exchange=exchange, routing_key="red")
    producer.publish("none", exchange=exchange, routing_key="re")
    assert [size(queue) for queue in (red, red_too, blue)] == [1, 1, 0]
    assert bodies_of(red, 1) == bodies_of(red_too, 1) == ["r"]


@pytest.mark.differs(redis="fanout reaches only those who consume at that moment")
def test_fanout_delivers_to_all(producer, bound, new_name):
    """The routing key does not matter."""
    exchange = Exchange(new_name(), type="fanout")
    queues = [bound(exchange, key) for key in ("", "a", "b")]
    producer.publish(1, exchange=exchange, routing_key="anything")
    assert [bodies_of(queue, 1) for queue in queues] == [[1], [1], [1]]


TOPICS = [
    # pattern, matches, does not match
    ("a.b", ["a.b"], ["a", "a.b.c", "a-b", "A.B"]),
    ("a.*", ["a.b", "a.x-y"], ["a", "a.b.c", "b.a"]),
    ("*.b", ["a.b", "a-a.b"], ["b", "x.a.b"]),
    ("*", ["a", "a-b"], ["a.b"]),
    ("a.*.c", ["a.b.c"], ["a.c", "a.b.b.c"]),
    ("a.#", ["a.b", "a.b.c"], ["ab", "b.a"]),
    ("#.c", ["a.c", "a.b.c"], ["abc", "c.a"]),
    ("a.#.d", ["a.b.d", "a.b.c.d"], ["a.b.c", "x.a.d"]),
    ("#", ["a", "a.b.c", "x.y"], []),
    ("a+b.(c)", ["a+b.(c)"], ["aab.c", "a+b.c"]),
    ("a%.b_", ["a%.b_"], ["axx.bx", "a%.bc"]),
]


@pytest.mark.parametrize(("pattern", "matching", "other"), TOPICS)
def test_topic_matches_words(producer, bound, new_name, pattern, matching, other):
    """`*` stands for one word, `#` for any number; everything else is literal."""
    exchange = Exchange(new_name(), type="topic")
    queue = bound(exchange, pattern)
    for key in [*matching, *other]:
        producer.publish(key, exchange=exchange, routing_key=key)
    assert size(queue) == len(matching), bodies_of(queue, size(queue))
    assert bodies_of(queue, len(matching)) == matching


@pytest.mark.parametrize(("pattern", "key"), [("a.#", "a"), ("#.c", "c"), ("a.#.d", "a.d"), ("#", "")])
@pytest.mark.differs(redis="`#` needs at least the separating dot")
def test_topic_hash_matches_no_word(producer, bound, new_name, pattern, key):
    """`#` also stands for nothing, together with its dot."""
    exchange = Exchange(new_name(), type="topic")
    queue = bound(exchange, pattern)
    producer.publish([key], exchange=exchange, routing_key=key)
    assert bodies_of(queue, 1) == [[key]]


def test_queue_gets_one_copy(producer, new_name, new_queue):
    """However many of its bindings match, a queue gets a message once."""
    exchange = Exchange(new_name(), type="topic")
    queue = new_queue(exchange=exchange, routing_key="a.*")
    queue.bind_to(exchange, routing_key="#")
    queue.bind_to(exchange, routing_key="*.b")
    producer.publish(1, exchange=exchange, routing_key="a.b")
    assert size(queue) == 1


def test_binding_twice_is_binding_once(producer, new_name, new_queue):
    """The same binding declared again changes nothing."""
    exchange = Exchange(new_name(), type="direct")
    queue = new_queue(exchange=exchange, routing_key="k")
    queue.declare()
    producer.publish(1, exchange=exchange, routing_key="k")
    assert size(queue) == 1


@pytest.mark.differs(redis="a queue cannot be unbound")
def test_unbound_queue_gets_nothing_more(producer, new_name, new_queue):
    """What it got before stays."""
    exchange = Exchange(new_name(), type="direct")
    queue = new_queue(exchange=exchange, routing_key="k")
    producer.publish("before", exchange=exchange, routing_key="k")
    queue.unbind_from(exchange, routing_key="k")
    producer.publish("after", exchange=exchange, routing_key="k")
    assert size(queue) == 1
    assert bodies_of(queue, 1) == ["before"]


def test_bindings_are_shared_by_all_processes(broker, producer, new_name, new_queue):
    """A publisher needs to know the exchange and nothing of the queues behind it."""
    exchange = Exchange(new_name(), type="direct")
    queue = new_queue(exchange=exchange, routing_key="k")
    with broker.connection() as stranger:
        Producer(stranger.channel()).publish(1, exchange=exchange.name, routing_key="k")
    assert bodies_of(queue, 1) == [1]


@pytest.mark.differs(redis="a queue cannot be unbound")
def test_new_binding_is_seen_at_once(broker, connection, new_name, new_queue):
    """A publisher that has published before learns of a queue that was bound since."""
    exchange = Exchange(new_name(), type="direct")
    with broker.connection() as stranger:
        publisher = Producer(stranger.channel(), exchange)
        publisher.publish("nowhere", routing_key="k")
        queue = new_queue(exchange=exchange, routing_key="k")
        publisher.publish("here", routing_key="k")
        assert bodies_of(queue, 1) == ["here"]
        queue.unbind_from(exchange, routing_key="k")
        publisher.publish("gone", routing_key="k")
        assert size(queue) == 0


def test_default_exchange_routes_by_queue_name(producer, new_queue):
    """Without an exchange the routing key is the name of the queue."""
    queue = new_queue()
    producer.publish(1, exchange="", routing_key=queue.name)
    assert bodies_of(queue, 1) == [1]


def test_delivery_tells_exchange_and_key(producer, bound, new_name):
    """A consumer sees where a message was published to."""
    exchange = Exchange(new_name(), type="topic")
    queue = bound(exchange, "a.#")
    producer.publish(1, exchange=exchange, routing_key="a.b")
    info = queue.get(no_ack=True).delivery_info
    assert (info["exchange"], info["routing_key"]) == (exchange.name, "a.b")


def test_unroutable_message_is_dropped(producer, new_name):
    """Without a matching queue a message is gone, and that is no error."""
    exchange = Exchange(new_name(), type="direct")
    producer.publish(1, exchange=exchange, routing_key="k", declare=[exchange])
    producer.publish(1, routing_key=new_name())


@pytest.mark.differs(redis="there is no `on_return`")
def test_unroutable_mandatory_message_is_returned(connection, new_name):
    """The publisher hears of it through `on_return`, with AMQP's code."""
    returned = []

    def on_return(error, exchange, routing_key, message):
        returned.append((reply_code(error), exchange, routing_key))

    name = new_name()
    producer = Producer(connection.channel(), on_return=on_return)
    producer.publish("lost", routing_key=name, mandatory=True)
    deadline = time.monotonic() + 20
    while not returned and time.monotonic() < deadline:
        connection.drain_events(timeout=20)
    assert returned == [(312, "", name)]


@pytest.mark.ours("no other transport has batches")
def test_unroutable_mandatory_message_of_a_batch_is_returned(connection, new_queue, new_name):
    """The others of the batch are stored; without `on_return` the caller hears of it."""
    returned = []

    def on_return(error, exchange, routing_key, message):
        returned.append((reply_code(error), routing_key, message["body"]))

    queue, nowhere = new_queue(), new_name()
    producer = Producer(connection.channel(), on_return=on_return, serializer="raw")
    with producer.batch():
        producer.publish(b"kept", routing_key=queue.name, mandatory=True)
        producer.publish(b"lost", routing_key=nowhere, mandatory=True)
        producer.publish(b"dropped", routing_key=nowhere)
    assert returned == [(312, nowhere, b"lost")]
    assert queue.get(no_ack=True).body == b"kept"

    producer = Producer(connection.channel(), serializer="raw")
    with pytest.raises(NoRoute, match=nowhere), producer.batch():  # noqa: PT012
        producer.publish(b"kept", routing_key=queue.name)
        producer.publish(b"lost", routing_key=nowhere, mandatory=True)
    assert queue.get(no_ack=True).body == b"kept"


@pytest.mark.differs(redis="there is no `on_return`")
def test_routable_mandatory_message_is_delivered(connection, new_queue):
    """`mandatory` changes nothing where a queue matches."""
    queue = new_queue()
    returned = []
    producer = Producer(connection.channel(), on_return=lambda *arguments: returned.append(arguments))
    producer.publish(1, routing_key=queue.name, mandatory=True)
    assert bodies_of(queue, 1) == [1]
    assert returned == []


class TestDeclaration:
    """Exchanges as entities of their own."""

    @pytest.mark.differs(redis=LOCAL)
    def test_publishing_to_a_missing_exchange_is_refused(self, connection, new_name):
        """AMQP's 404, at the latest with the next operation that has an answer."""
        with refused(connection, 404) as channel:
            Producer(channel, auto_declare=False).publish(1, exchange=new_name(), routing_key="k")
            Queue(new_name())(channel).queue_declare()

    @pytest.mark.differs(redis=LOCAL)
    def test_passive_declaration_finds_it(self, connection, channel, new_name):
        """A passive declaration creates nothing."""
        name = new_name()
        with refused(connection, 404) as refused_channel:
            refused_channel.exchange_declare(exchange=name, type="direct", passive=True)
        Exchange(name, type="direct")(channel).declare()
        channel.exchange_declare(exchange=name, type="direct", passive=True)

    @pytest.mark.differs(redis=LOCAL)
    def test_another_type_is_refused(self, connection, channel, new_name):
        """An exchange keeps its type."""
        name = new_name()
        Exchange(name, type="direct")(channel).declare()
        with refused(connection, 406) as refused_channel:
            Exchange(name, type="fanout")(refused_channel).declare()

    @pytest.mark.differs(redis=LOCAL)
    def test_used_exchange_is_not_deleted_if_unused(self, connection, channel, new_queue, new_name):
        """`if_unused` keeps an exchange that has bindings."""
        exchange = Exchange(new_name(), type="direct")
        queue = new_queue(exchange=exchange, routing_key="k")
        with refused(connection, 406) as refused_channel:
            exchange(refused_channel).delete(if_unused=True)
        queue.unbind_from(exchange, routing_key="k")
        exchange(channel).delete(if_unused=True)
        with refused(connection, 404) as refused_channel:
            refused_channel.exchange_declare(exchange=exchange.name, type="direct", passive=True)

    def test_deleted_exchange_takes_its_bindings_along(self, connection, channel, new_queue, new_name):
        """Declared again, it routes nowhere."""
        exchange = Exchange(new_name(), type="direct")
        queue = new_queue(exchange=exchange, routing_key="k")
        exchange(channel).delete()
        producer = Producer(connection.channel())
        exchange(channel).declare()
        producer.publish(1, exchange=exchange, routing_key="k", declare=[])
        assert size(queue) == 0

    @pytest.mark.differs(redis=LOCAL)
    def test_queue_cannot_be_bound_to_a_missing_exchange(self, connection, new_queue, new_name):
        """A binding needs both of its ends."""
        queue = new_queue()
        with refused(connection, 404) as channel:
            channel.queue_bind(queue=queue.name, exchange=new_name(), routing_key="k")


@pytest.mark.differs(redis="the subscription begins with the first drain_events")
def test_consumer_of_a_fanout_gets_what_is_published_later(connection, producer, new_name):
    """As a worker hears broadcast commands: an exclusive queue of its own, without acks."""
    exchange = Exchange(new_name(), type="fanout")
    queues = [Queue(new_name(), exchange, exclusive=True, auto_delete=True) for _ in range(3)]
    with Inbox(connection.channel(), *queues, no_ack=True) as inbox:
        producer.publish("all", exchange=exchange)
        assert [message.payload for message in inbox.take(3)] == ["all"] * 3
