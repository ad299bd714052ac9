"""Names of queues, exchanges and keys are data."""

from __future__ import annotations

import pytest
from kombu import Exchange, Producer, Queue

from .inbox import bodies_of, missing, size

NAMES = {
    "quotes": 'it\'s a "name" `q`',
    "statement": "'; DROP SCHEMA celery CASCADE; --",
    "formats": "%s %(a)s {} {0} $1 :a ?",
    "wildcards": "_%*#\\",
    "emoji": "\U0001f407\u200d\U0001f5a4 жук",
    "right to left": "\u202e\u05d0\u05d1",
    "spaces": " leading, trailing ",
    "control": "a\tb\x7f",
    "dots": "...a..b...",
    "255 bytes": "x" * 223,  # with the 32 that make it unique
    "255 bytes of UTF-8": "é" * 111 + "x",
}


@pytest.fixture
def unique(new_name):
    """Makes a name that contains the text and belongs to this test alone."""
    prefix = new_name().partition(".")[0]
    return lambda text: (prefix + "0" * 32)[:32] + text


@pytest.mark.parametrize("kind", NAMES)
def test_any_name_works(connection, channel, producer, unique, kind):
    """Declared, bound, published to, counted, emptied and deleted under any name."""
    name = unique(NAMES[kind])
    assert len(name.encode()) <= 255
    exchange = Exchange(name, type="direct")
    queue = Queue(name, exchange, routing_key=name)(channel)
    queue.declare()
    producer.publish(1, routing_key=name)
    producer.publish(2, exchange=exchange, routing_key=name)
    assert size(queue) == 2
    message = queue.get(no_ack=True)
    assert message.delivery_info["routing_key"] == name
    assert queue.purge() == 1
    queue.delete()
    exchange(channel).delete()
    assert missing(connection, name)


def test_similar_names_are_different(new_name, channel, producer):
    """Case, composition and trailing spaces count."""
    base = new_name()
    names = [base + suffix for suffix in ("a", "A", "a ", "\u00e9", "e\u0301", "ﬁ", "fi")]
    queues = [Queue(name)(channel) for name in names]
    for queue in queues:
        queue.declare()
        producer.publish(queue.name, routing_key=queue.name)
    assert [bodies_of(queue, 1) for queue in queues] == [[name] for name in names]


@pytest.mark.ours("the client of RabbitMQ fails in its own way, Redis takes it")
@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, "x" * 10_000, "a\x00b", "\x00", "\ud800"])
def test_impossible_name_is_refused(connection, name):
    """Above 255 bytes, with NUL or not to be encoded: the error says so, and nothing is declared."""
    from celery_postgres.errors import Error

    for declare in (
        lambda channel: Queue(name)(channel).declare(),
        lambda channel: Exchange(name, type="direct")(channel).declare(),
        lambda channel: Queue("plain", Exchange("plain"), routing_key=name)(channel).declare(),
    ):
        channel = connection.channel()
        with pytest.raises(Error, match=r"255|NUL|Unicode"):
            declare(channel)
        channel.close()
    assert connection.channel().queue_declare(queue="after", durable=True).queue == "after"


@pytest.mark.ours("the client of RabbitMQ fails in its own way, Redis takes it")
@pytest.mark.parametrize("key", ["x" * 256, "a\x00b"])
def test_impossible_routing_key_is_refused(connection, key):
    """A publish with such a key fails, whatever the exchange."""
    from celery_postgres.errors import Error

    with pytest.raises(Error):
        Producer(connection.channel()).publish(1, routing_key=key)
