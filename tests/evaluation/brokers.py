"""The brokers that the example is run over, those of them that are there."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES

from tests.fixtures.redis_server import EVALUATION, redis_url

BROKERS = ("postgresql", "redis", "rabbitmq")
RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"


def broker_url(name: str) -> str | None:
    """The URL of a broker, None for the application's own database; skips the test if it is not there."""
    if name == "postgresql":
        if "postgresql" not in TRANSPORT_ALIASES:
            pytest.skip("not run over postgresql: the transport is not registered")
        return None
    if name == "redis":
        return redis_url(EVALUATION)
    try:
        socket.create_connection(("127.0.0.1", 5672), 2).close()
    except OSError as error:
        pytest.skip(f"not run over {name}: nothing answers at 127.0.0.1:5672 ({error})")
    return RABBITMQ


def remove_queue(name: str, queue: str) -> None:
    """Leave nothing of a run's queue on a broker that others use, too."""
    if name == "rabbitmq":
        with Connection(RABBITMQ) as connection, closing(connection.channel()) as channel:
            channel.queue_delete(queue)
            channel.exchange_delete(queue)
    elif name == "redis":
        import redis

        with redis.Redis.from_url(redis_url(EVALUATION)) as client:
            # The queue, its priorities, and kombu's notes about its bindings.
            leftovers = list(client.scan_iter(f"*{queue}*"))
            if leftovers:
                client.delete(*leftovers)
