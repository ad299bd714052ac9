"""Where sessions are shared and nobody said so, nothing prepared is kept: it is noticed, and gone without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kombu import Connection, Producer

from tests.fixtures.pooler import new_pooler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.pooler import Pooler

NOTICED = "does not keep what a session prepares: from now on nothing is prepared there"


@pytest.fixture
def pooler(database_url: str) -> Iterator[Pooler]:
    """One session for all: with more of them, each client may have met its own by chance."""
    with new_pooler(database_url, size=1) as made:
        yield made


def test_pooler_that_was_said_to_be_none(pooler: Pooler, caplog: pytest.LogCaptureFixture) -> None:
    """With `pooled=false` before a transaction pooler, clients that take turns go on; it is said once."""
    url = f"{pooler.url}?pooled=false"
    with Connection(url) as first, Connection(url) as second:
        first.default_channel.queue_declare("q", durable=True, auto_delete=False)
        for number in range(10):
            for connection in (first, second):
                Producer(connection).publish(number, routing_key="q", retry=True)
    with Connection(url) as connection:
        inbox = connection.SimpleQueue("q")
        received = []
        for _ in range(20):
            message = inbox.get(timeout=5)
            received.append(message.payload)
            message.ack()
        assert sorted(received) == sorted([*range(10)] * 2)
        inbox.close()
    assert sum(NOTICED in record.message for record in caplog.records) == 1
