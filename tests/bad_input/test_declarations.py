"""Declarations that differ from what exists, or that say what cannot be."""

from __future__ import annotations

import pytest
from kombu import Connection, Exchange, Queue

from celery_postgres.errors import PreconditionFailed

from .admin import refusal

STRICT = {"strict_declare": True}

QUEUES = {
    "durable": {"durable": False},
    "auto_delete": {"auto_delete": True},
    "priorities": {"max_priority": 5},
    "time to live": {"message_ttl": 1.5},
    "arguments": {"queue_arguments": {"x-max-length": 3}},
}
EXCHANGES = {
    "durable": {"durable": False},
    "auto_delete": {"auto_delete": True},
    "arguments": {"arguments": {"alternate-exchange": "other"}},
}


@pytest.fixture
def url(empty_module_database_url):
    return empty_module_database_url


def warnings_in(log, name: str) -> list[str]:
    return [line for line in log.getvalue().splitlines() if line.startswith("WARNING") and name in line]


@pytest.mark.parametrize("kind", QUEUES)
def test_differing_queue_is_kept(url, log, kind):
    """The existing queue stays as it is, with one warning for the process that names the difference."""
    name = f"kept {kind}"
    with Connection(url) as connection:
        Queue(name)(connection).declare()
        connection.Producer().publish("stored", routing_key=name)
    for _ in range(3):
        with Connection(url) as connection:
            queue = Queue(name, **QUEUES[kind])(connection.default_channel)
            queue.declare()
    (line,) = warnings_in(log, name)
    assert "keeping the existing one; declare it as it is, or delete it" in line
    with Connection(url, transport_options=STRICT) as connection:
        queue = Queue(name)(connection.default_channel)
        queue.declare()
        assert queue.get(no_ack=True).payload == "stored"


@pytest.mark.parametrize("kind", QUEUES)
def test_differing_queue_is_refused_on_demand(url, log, kind):
    """With `strict_declare` it is AMQP's 406; queue, messages and channel are as before."""
    name = f"refused {kind}"
    with Connection(url, transport_options=STRICT) as connection:
        channel = connection.default_channel
        queue = Queue(name)(channel)
        queue.declare()
        connection.Producer(channel).publish("stored", routing_key=name)
        with refusal(PreconditionFailed) as told:
            Queue(name, **QUEUES[kind])(channel).declare()
        assert told.matches(r"is .*, declared .*: delete it or declare it as it is \(406\)$")
        assert queue.get(no_ack=True).payload == "stored"
        queue.declare()
    assert warnings_in(log, name) == []


@pytest.mark.parametrize("kind", EXCHANGES)
@pytest.mark.parametrize("strict", [False, True], ids=["kept", "refused"])
def test_differing_exchange(url, log, kind, strict):
    """Kept with one warning, or refused with 406, as for queues."""
    name = f"{kind} {strict}"
    with Connection(url, transport_options={"strict_declare": strict}) as connection:
        channel = connection.default_channel
        Exchange(name, type="direct")(channel).declare()
        different = Exchange(name, type="direct", **EXCHANGES[kind])(channel)
        for _ in range(2):
            if strict:
                with refusal(PreconditionFailed) as told:
                    different.declare()
                assert told.matches(r"delete it or declare it as it is \(406\)$")
            else:
                different.declare()
        Exchange(name, type="direct")(channel).declare()
    assert len(warnings_in(log, name)) == (0 if strict else 1)


@pytest.mark.parametrize("strict", [False, True])
def test_other_type_is_always_an_error(url, strict):
    """An exchange cannot route in two ways: 406 in both modes, and the existing one goes on routing."""
    name = f"type {strict}"
    with Connection(url, transport_options={"strict_declare": strict}) as connection:
        channel = connection.default_channel
        queue = Queue(f"q {name}", Exchange(name, type="direct"), routing_key="k")(channel)
        queue.declare()
        for kind in ("topic", "fanout"):
            with refusal(PreconditionFailed) as told:
                Exchange(name, type=kind)(channel).declare()
            assert told.matches(f"is of type direct, declared as {kind}: delete it or choose another name")
        connection.Producer(channel).publish(1, exchange=name, routing_key="k")
        assert queue.get(no_ack=True).payload == 1


@pytest.mark.parametrize("kind", ["headers", "x-delayed-message", "", "Direct", "'; --"])
def test_unknown_type(url, kind):
    """An exchange type that is not supported is named with those that are; nothing is declared."""
    with Connection(url) as connection:
        channel = connection.default_channel
        with refusal(PreconditionFailed) as told:
            channel.exchange_declare("unknown", type=kind)
        assert told.matches("only direct, topic, fanout are supported")
        assert channel.exchange_declare("unknown", type="direct", durable=True) is None


@pytest.mark.parametrize(
    "value", [-1, "many", 1e400, float("nan"), True, [], {}, 2**64, "9" * 5_000, b"\xff"]
)
@pytest.mark.parametrize("argument", ["x-max-length", "x-message-ttl", "x-expires", "x-max-priority"])
def test_argument_that_is_no_number(url, argument, value):
    """RabbitMQ's numeric arguments are numbers; the message says of which range."""
    with Connection(url) as connection:
        channel = connection.default_channel
        with refusal(PreconditionFailed) as told:
            channel.queue_declare("wrong", arguments={argument: value})
        assert told.matches(f"^{argument} is .*: a whole number from 0 to [0-9]+ is needed")
        channel.queue_declare("right", arguments={argument: 5 if value is None else "200"})
        channel.queue_delete("right")


@pytest.mark.parametrize("argument", ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes"])
def test_largest_number(url, argument):
    """A limit beyond any calendar works like none."""
    name = f"largest {argument}"
    with Connection(url) as connection:
        channel = connection.default_channel
        queue = Queue(name, queue_arguments={argument: 2**53})(channel)
        queue.declare()
        connection.Producer(channel).publish(1, routing_key=name, expiration=1e12)
        assert queue.get(no_ack=True).payload == 1
