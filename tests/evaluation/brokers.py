"""The brokers that the example is run over, those of them that are there."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES

BROKERS = {
    "postgresql": None,
    "redis": "redis://127.0.0.1:6379/9",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
}


def broker_url(name: str) -> str | None:
    """The URL of a broker, None for the application's own database; skips the test if it is not there."""
    url = BROKERS[name]
    if url is None:
        if "postgresql" not in TRANSPORT_ALIASES:
            pytest.skip("not run over postgresql: the transport is not registered")
        return None
    with Connection(url) as connection:
        host, port = connection.hostname, connection.port or connection.default_port
    try:
        socket.create_connection((host, port), 2).close()
    except OSError as error:
        pytest.skip(f"not run over {name}: nothing answers at {host}:{port} ({error})")
    return url


def remove_queue(name: str, queue: str) -> None:
    """Leave nothing of a run's queue on a broker that others use, too."""
    url = BROKERS[name]
    if name == "rabbitmq":
        with Connection(url) as connection, closing(connection.channel()) as channel:
            channel.queue_delete(queue)
            channel.exchange_delete(queue)
    elif name == "redis":
        import redis

        with redis.Redis.from_url(url) as client:
            # The queue, its priorities, and kombu's notes about its bindings.
            leftovers = list(client.scan_iter(f"*{queue}*"))
            if leftovers:
                client.delete(*leftovers)
