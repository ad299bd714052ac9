"""The three connections that kombu's integration tests ask for."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from kombu import Connection

from tests.fixtures.broker import Broker, broker, pytest_configure, pytest_itemcollected

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["broker", "pytest_configure", "pytest_itemcollected"]


@pytest.fixture
def dead_url(broker: Broker) -> Iterator[str]:
    """A URL of the same kind at a port that is bound and never listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        live = urlsplit(broker.url)
        yield live._replace(netloc=f"127.0.0.1:{bound.getsockname()[1]}", query="").geturl()


@pytest.fixture
def connection(broker: Broker) -> Iterator[Connection]:
    connection = Connection(broker.url)
    yield connection
    connection.release()


@pytest.fixture
def invalid_connection(dead_url: str) -> Iterator[Connection]:
    connection = Connection(dead_url)
    yield connection
    connection.release()


@pytest.fixture
def failover_connection(broker: Broker, dead_url: str) -> Iterator[Connection]:
    connection = Connection(f"{dead_url};{broker.url}")
    yield connection
    connection.release()
