"""Bodies, headers and properties arrive as they were published."""

from __future__ import annotations

import hashlib
import random

import pytest
from kombu import Producer

from .inbox import Inbox, size

MEGABYTE = 1024 * 1024
RAW = {"content_type": "application/data", "content_encoding": "binary"}

BODIES = {
    "empty": b"",
    "every byte": bytes(range(256)),
    "NUL": b"\x00",
    "NULs": b"a\x00b\x00\x00",
    "not UTF-8": b"\xff\xfe\xc3\x28",
    "escape-like": rb"\x41 \\000 %s $1 'x' \N",
}


def round_trip(publish, queue, payload, **properties):
    publish(queue, payload, **properties)
    return queue.get(no_ack=True)


def raw(message) -> bytes:
    body = message.body
    return body.encode() if isinstance(body, str) else bytes(body)


@pytest.mark.parametrize("name", BODIES)
def test_any_bytes_arrive(new_queue, publish, name):
    """A body is bytes; none of them has a meaning."""
    message = round_trip(publish, new_queue(), BODIES[name], **RAW)
    assert raw(message) == BODIES[name]
    assert (message.content_type, message.content_encoding) == ("application/data", "binary")


@pytest.mark.parametrize("megabytes", [1, 16])
def test_large_bodies_arrive(new_queue, publish, channel, megabytes):
    """Up to 16 MiB with the default settings, by `get` and to a consumer."""
    body = random.Random(megabytes).randbytes(megabytes * MEGABYTE)
    digest = hashlib.sha256(body).digest()
    queue = new_queue()
    assert hashlib.sha256(raw(round_trip(publish, queue, body, **RAW))).digest() == digest
    publish(queue, body, **RAW)
    with Inbox(channel, queue) as inbox:
        (message,) = inbox.take(1, timeout_s=20)
        assert hashlib.sha256(raw(message)).digest() == digest
        message.ack()


@pytest.mark.ours("a limit of ours")
def test_larger_body_is_refused(new_queue, publish, connection):
    """More than `max_message_bytes` is an error at the publisher (311), and nothing is stored."""
    from celery_postgres.errors import MessageTooLarge

    queue = new_queue()
    with pytest.raises(MessageTooLarge, match="max_message_bytes"):
        publish(queue, bytes(16 * MEGABYTE + 1), **RAW)
    assert size(queue) == 0
    publish(queue, b"small", **RAW)
    assert raw(queue.get(no_ack=True)) == b"small"


@pytest.mark.ours("a limit of ours")
def test_limit_is_an_option(broker, new_queue):
    """`max_message_bytes` counts the bytes of the body."""
    from celery_postgres.errors import MessageTooLarge

    queue = new_queue()
    with broker.connection(transport_options={"max_message_bytes": 2048}) as connection:
        producer = Producer(connection.channel())
        producer.publish(bytes(2048), routing_key=queue.name, **RAW)
        with pytest.raises(MessageTooLarge):
            producer.publish(bytes(2049), routing_key=queue.name, **RAW)
    assert size(queue) == 1


HEADERS = {
    "text": "grün ☃ 𐍈",
    "quotes": "' \" ; -- \\ %s {} $1",
    "control": "line\nline\ttab\x7f",
    "numbers": [0, -1, 2**31, -(2**62), 1.5, -0.25],
    "flags": [True, False, None],
    "nested": {"a": {"b": [{"c": []}]}, "": "empty key"},
    "long": "x" * 100_000,
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_arrive(new_queue, publish, name):
    """Whatever JSON can say, with its types."""
    message = round_trip(publish, new_queue(), 1, headers={name: HEADERS[name]})
    assert message.headers[name] == HEADERS[name]
    assert repr(message.headers[name]) == repr(HEADERS[name])


@pytest.mark.parametrize("text", ["a\x00b", "\x00"])
def test_headers_may_hold_nul(new_queue, publish, text):
    """PostgreSQL's text types have no NUL; a header may."""
    message = round_trip(publish, new_queue(), 1, headers={"h": text, text: "key"})
    assert message.headers == {"h": text, text: "key"}


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ude00\ud83d"])
def test_headers_may_hold_lone_surrogates(new_queue, publish, text):
    """As they come from file names and from other languages' strings."""
    message = round_trip(publish, new_queue(), 1, headers={"h": text, text: "key"})
    assert message.headers == {"h": text, text: "key"}


def test_properties_arrive(new_queue, publish):
    """Those that Celery uses, and those of AMQP that others may use."""
    given = {
        "correlation_id": "c" * 36,
        "reply_to": "r",
        "message_id": "m",
        "type": "t",
        "app_id": "a",
        "priority": 7,
    }
    message = round_trip(publish, new_queue(), {"k": [1]}, **given)
    assert {key: message.properties[key] for key in given} == given
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert message.payload == {"k": [1]}


@pytest.mark.parametrize("mode", [1, 2])
def test_delivery_mode_is_kept(new_queue, publish, mode):
    """A transient message (1) and a persistent one (2) arrive alike, and say what they are."""
    message = round_trip(publish, new_queue(), mode, delivery_mode=mode)
    assert message.payload == mode
    assert message.properties["delivery_mode"] == mode


def test_compressed_body_arrives(new_queue, publish):
    """kombu compresses and says so in a header."""
    message = round_trip(publish, new_queue(), {"text": "abc" * 1_000}, compression="zlib")
    assert message.headers["compression"]
    assert message.payload == {"text": "abc" * 1_000}


def test_pickled_body_arrives(new_queue, publish, channel):
    """Serializers that write bytes."""
    queue = new_queue()
    publish(queue, {1, 2, 3}, serializer="pickle")
    message = queue.get(no_ack=True, accept=["pickle"])
    assert message.payload == {1, 2, 3}


def test_publishing_twice_is_two_messages(new_queue, publish, producer):
    """The properties of a delivered message, published again, make another message."""
    queue = new_queue()
    publish(queue, 1)
    message = queue.get()
    # As celery.contrib.migrate does it.
    own = ("application_headers", "content_type", "content_encoding", "headers")
    properties = {key: value for key, value in message.properties.items() if key not in own}
    for _ in range(2):
        producer.publish(message.payload, routing_key=queue.name, headers=message.headers, **properties)
    assert size(queue) == 2
    message.ack()
    assert size(queue) == 2
