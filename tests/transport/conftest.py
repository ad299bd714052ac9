"""A connection, a channel and names that no other test uses."""

from __future__ import annotations

import itertools
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Producer, Queue

from tests.fixtures.broker import Broker, broker, fresh_broker, pytest_configure, pytest_itemcollected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["broker", "fresh_broker", "pytest_configure", "pytest_itemcollected"]


@pytest.fixture
def connection(broker: Broker) -> Iterator[Connection]:
    connection = broker.connection()
    connection.connect()
    yield connection
    connection.release()


@pytest.fixture
def other_connection(broker: Broker) -> Iterator[Connection]:
    """A second client."""
    connection = broker.connection()
    connection.connect()
    yield connection
    connection.release()


@pytest.fixture
def channel(connection: Connection) -> Iterator[Any]:
    channel = connection.channel()
    yield channel
    channel.close()


@pytest.fixture
def producer(connection: Connection) -> Iterator[Producer]:
    """Publishes on a channel of its own."""
    channel = connection.channel()
    yield Producer(channel)
    channel.close()


@pytest.fixture
def new_name() -> Callable[[], str]:
    """Makes names for queues and exchanges."""
    prefix = uuid.uuid4().hex[:12]
    numbers = itertools.count(1)
    return lambda: f"{prefix}.{next(numbers)}"


@pytest.fixture
def new_queue(channel: Any, new_name: Callable[[], str]) -> Callable[..., Queue]:
    """Declares queues, routed by their names through the default exchange unless told otherwise."""

    def declare(name: str | None = None, **properties: Any) -> Queue:
        name = name or new_name()
        properties.setdefault("routing_key", name)
        queue = Queue(name, **properties)(channel)
        queue.declare()
        return queue

    return declare


@pytest.fixture
def publish(producer: Producer) -> Callable[..., None]:
    """Publishes payloads one by one to a queue through the default exchange."""

    def publish(queue: Queue, *payloads: Any, **properties: Any) -> None:
        for payload in payloads:
            producer.publish(payload, routing_key=queue.name, **properties)

    return publish
