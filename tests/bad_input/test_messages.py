"""Messages and names that cannot be stored, and those that look as if they could not."""

from __future__ import annotations

import pytest
from kombu import Connection, Exchange, Queue

from celery_postgres.errors import ChannelError, MessageTooLarge, NotFound, PreconditionFailed

from .admin import Admin, refusal

MEGABYTE = 1024 * 1024
NOT_NAMES = {
    "10,000 characters": "x" * 10_000,
    "256 bytes": "x" * 256,
    "many bytes": "\u05d0" * 128,
    "NUL": "celery\0",
    "lone surrogate": "a\ud800b",
}
REMEDIES = r"choose a shorter one|remove it|rename it"


@pytest.fixture(scope="module")
def admin(empty_module_database_url):
    """Of a database that the tests of this module share; each leaves it without messages."""
    return Admin(empty_module_database_url)


@pytest.fixture
def connection(admin):
    with Connection(admin.url) as connection:
        yield connection
    assert not any(admin.stored().values())


@pytest.fixture
def channel(connection):
    """Of a connection with a queue `celery` and an exchange `celery`, which a name cut off would reach."""
    channel = connection.default_channel
    Queue("celery", Exchange("celery"), routing_key="celery")(channel).declare()
    return channel


def usable(channel) -> bool:
    """Whether the channel still publishes and receives."""
    channel.connection.client.Producer(channel).publish("after", routing_key="celery")
    return bool(channel.basic_get("celery", no_ack=True).payload == "after")


def publish(channel, payload, **properties):
    channel.connection.client.Producer(channel).publish(payload, **properties)


def publish_batch(channel, name):
    producer = channel.connection.client.Producer(channel)
    with producer.batch():
        producer.publish(1, routing_key="celery")
        producer.publish(2, exchange=name, routing_key="celery")


VERBS = {
    "declare a queue": lambda channel, name: channel.queue_declare(name),
    "look for a queue": lambda channel, name: channel.queue_declare(name, passive=True),
    "declare an exchange": lambda channel, name: channel.exchange_declare(name),
    "look for an exchange": lambda channel, name: channel.exchange_declare(name, passive=True),
    "delete a queue": lambda channel, name: channel.queue_delete(name),
    "delete an exchange": lambda channel, name: channel.exchange_delete(name),
    "purge a queue": lambda channel, name: channel.queue_purge(name),
    "get a message": lambda channel, name: channel.basic_get(name),
    "consume": lambda channel, name: channel.basic_consume(name),
    "consume by tag": lambda channel, name: channel.basic_consume("celery", consumer_tag=name),
    "bind a queue": lambda channel, name: channel.queue_bind(name, "celery", "k"),
    "bind an exchange": lambda channel, name: channel.queue_bind("celery", name, "k"),
    "bind a key": lambda channel, name: channel.queue_bind("celery", "celery", name),
    "unbind a queue": lambda channel, name: channel.queue_unbind(name, "celery", "celery"),
    "unbind an exchange": lambda channel, name: channel.queue_unbind("celery", name, "celery"),
    "unbind a key": lambda channel, name: channel.queue_unbind("celery", "celery", name),
    "dead-letter to": lambda channel, name: channel.queue_declare(
        "q", arguments={"x-dead-letter-exchange": name}
    ),
    "dead-letter by": lambda channel, name: channel.queue_declare(
        "q", arguments={"x-dead-letter-routing-key": name}
    ),
    "publish to": lambda channel, name: publish(channel, 1, exchange=name, routing_key="celery"),
    "publish by": lambda channel, name: publish(channel, 1, routing_key=name),
    "publish to and by": lambda channel, name: publish(channel, 1, exchange="celery", routing_key=name),
    "publish a batch": publish_batch,
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", NOT_NAMES)
def test_name_that_cannot_be(admin, channel, verb, kind):
    """No verb takes it, none cuts it off: the error names the remedy, and the channel goes on."""
    topology = "SELECT 'queue', name FROM celery.queue UNION SELECT exchange, routing_key FROM celery.binding"
    before = sorted(admin.run(topology))
    with refusal(PreconditionFailed) as told:
        VERBS[verb](channel, NOT_NAMES[kind])
    assert told.matches(REMEDIES)
    assert len(str(told)) < 300
    assert sorted(admin.run(topology)) == before
    assert not any(admin.stored().values())
    assert usable(channel)


NAMES = {
    "quotes": """it's a "name" `q` $$ E'\\'""",
    "statement": "'; DROP SCHEMA celery CASCADE; --",
    "percent": "%s %(name)s %% %n",
    "braces": "{} {s} {0} {{}} {name!r}",
    "parameters": "$1 :name ? @x",
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd\u202c",
    "invisible": "\u200b\ufeff\u00a0",
    "control": "\x01\x1b[31m\r\n\x7f",
    "255 bytes": "x" * 255,
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("type_", ["direct", "topic", "fanout"])
def test_odd_name_is_only_a_name(admin, connection, kind, type_):
    """As queue, exchange, routing key and consumer tag, it leads to its own queue and to no other."""
    name = NAMES[kind]
    channel = connection.default_channel
    queue = Queue(name, Exchange(name, type=type_), routing_key=name)(channel)
    queue.declare()
    other = Queue("other", Exchange("other"), routing_key=name)(channel)
    other.declare()
    received = []
    channel.basic_consume(name, consumer_tag=name, callback=received.append)
    publish(channel, name, exchange=name, routing_key=name)
    connection.drain_events(timeout=5)
    assert [(m.payload, m.delivery_info["routing_key"]) for m in received] == [(name, name)]
    received[0].ack()
    channel.basic_cancel(name)
    assert other.get() is None
    channel.exchange_delete(name)
    with refusal(NotFound) as told:
        publish(channel, 1, exchange=name, routing_key=name)
    assert told.matches("declare it")
    assert queue.delete() == 0
    assert admin.schemas() == {"celery"}


@pytest.mark.parametrize("limit", [None, 16 * MEGABYTE, 17 * MEGABYTE, 1024])
def test_body_that_is_too_large(admin, limit):
    """One byte more than allowed is refused at once; just as many are stored. 16 MiB is the default."""
    options = {} if limit is None else {"max_message_bytes": limit}
    allowed = limit or 16 * MEGABYTE
    raw = {"content_type": "application/data", "content_encoding": "binary", "routing_key": "celery"}
    with Connection(admin.url, transport_options=options) as connection:
        channel = connection.default_channel
        Queue("celery")(channel).declare()
        with refusal(MessageTooLarge) as told:
            publish(channel, bytes(allowed + 1), **raw)
        assert told.matches(f"allowed are {allowed:,}: pass a reference .*, or raise .* max_message_bytes")
        assert isinstance(told.error, ChannelError)
        assert told.error.code == 311
        assert not any(admin.stored().values())
        publish(channel, bytes(allowed), **raw)
        assert len(channel.basic_get("celery", no_ack=True).body) == allowed


def test_task_that_is_too_large(admin, new_app):
    """`delay()` raises the same error at once, without retries, and nothing is stored."""
    app = new_app(broker_url=admin.url, broker_transport_options={"max_message_bytes": 2048})
    app.send_task("t", ("small",))
    with refusal(MessageTooLarge):
        app.send_task("t", ("x" * 2048,), retry=True)
    app.send_task("t", ("small",))
    assert admin.stored()["message"] == admin.stored()["ready"] == 2
    assert app.control.purge() == 2


def test_batch_with_a_body_that_is_too_large(admin, connection, channel):
    """Nothing of the batch is stored."""
    producer = connection.Producer(channel)
    with refusal(MessageTooLarge), producer.batch():
        producer.publish(1, routing_key="celery")
        producer.publish("x" * (16 * MEGABYTE + 1), routing_key="celery")
    assert not any(admin.stored().values())
    assert usable(channel)


TEXTS = {
    "NUL": "a\0b",
    "lone high surrogate": "\ud83d",
    "lone low surrogate": "\ude00",
    "surrogates in the wrong order": "\ude00\ud83d",
    "escapes": "\\u0000 \\ud83d \\x00",
    "emoji": "\U0001f600",
    "statement": "'; DROP TABLE celery.message; --",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_any_text_in_a_task(admin, new_app, kind):
    """In its name, its id, its arguments and its headers: it arrives as it was sent."""
    text = TEXTS[kind]
    app = new_app(broker_url=admin.url)
    app.send_task(text, (text, [text]), {text: text}, task_id=text, headers={text: text}, shadow=text)
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue("celery").get(timeout=5)
        message.ack()
    assert message.headers["task"] == message.headers["id"] == message.headers[text] == text
    args, kwargs, _ = message.payload
    assert args == [text, [text]]
    assert kwargs == {text: text}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("property_", ["correlation_id", "reply_to", "message_id", "type", "app_id"])
def test_any_text_in_a_property(channel, kind, property_):
    """Properties arrive as they were published."""
    publish(channel, 1, routing_key="celery", **{property_: TEXTS[kind]})
    message = channel.basic_get("celery", no_ack=True)
    assert message.properties[property_] == TEXTS[kind]


def test_unknown_property_that_json_cannot_hold(channel, caplog):
    """Left behind, as by RabbitMQ's client, and said so; the others arrive."""
    publish(channel, 1, routing_key="celery", signal=object(), colour="red", app_id="shop")
    properties = channel.basic_get("celery", no_ack=True).properties
    assert "signal" not in properties
    assert (properties["colour"], properties["app_id"]) == ("red", "shop")
    assert "without its property signal" in caplog.text


def test_property_of_amqp_that_json_cannot_hold(admin, channel):
    """Refused: whoever reads the message relies on it."""
    with pytest.raises(TypeError):
        publish(channel, 1, routing_key="celery", correlation_id=object())
    assert not any(admin.stored().values())


@pytest.mark.parametrize("properties", [{"priority": "high"}, {"priority": ["high"]}, {"expiration": "soon"}])
def test_property_that_is_no_number(admin, channel, properties):
    """Refused as by RabbitMQ (406), before anything is stored."""
    message = channel.prepare_message(b"", properties=dict(properties))
    with refusal(PreconditionFailed) as told:
        channel.basic_publish(message, routing_key="celery")
    assert told.matches("a number is needed")
    assert not any(admin.stored().values())
    assert usable(channel)


@pytest.mark.parametrize("priority", [-1, 0, 255, 256, 10**30, "7", 3.9])
def test_priority_out_of_range(channel, priority):
    """Counts as the nearest that exists."""
    publish(channel, 1, routing_key="celery", priority=priority)
    assert channel.basic_get("celery", no_ack=True).payload == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"task": {"not": "a name"}, "id": 5},
        {"x-death": "yes"},
        {"x-death": [5, {"queue": "dying", "reason": "rejected", "count": "many"}]},
        {"x-death": {"queue": "dying"}},
        {"eta": "tomorrow"},
        {"eta": 5, "task": "t"},
        {"eta": "9999-12-31T23:59:59.999999+00:00", "expires": [], "id": "\0", "task": "\ud800"},
    ],
)
def test_odd_headers_do_not_stop_dead_lettering(admin, connection, channel, headers):
    """A publisher's headers may hold anything: rejecting the message moves it on all the same."""
    Queue("dead", Exchange("dead", type="fanout"))(channel).declare()
    Queue("dying", queue_arguments={"x-dead-letter-exchange": "dead"})(channel).declare()
    headers = {key: value for key, value in headers.items() if not str(value).startswith("9999")}
    publish(channel, 1, routing_key="dying", headers=headers)
    channel.basic_get("dying").reject()
    assert usable(channel)
    message = channel.basic_get("dead")
    assert message.headers["x-death"][0]["queue"] == "dying"
    assert {key: message.headers[key] for key in headers if key != "x-death"} == {
        key: value for key, value in headers.items() if key != "x-death"
    }
    message.ack()
