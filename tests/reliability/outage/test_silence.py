"""A link that stays open while nothing comes through any more, as behind a proxy that has lost its server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from kombu import Connection, Producer

from celery_postgres import intake
from celery_postgres.sql import Statement

from .conftest import database
from .test_reconciliation import QUEUE, Consumer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def consumer(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Consumer]:
    monkeypatch.setattr(intake, "STALE_AFTER", 1.0)
    consumer = Consumer(database_url)
    with consumer.proxy:
        yield consumer
        consumer.connection.release()


def publish(url: str, *bodies: str) -> None:
    """Over a link that is well."""
    with Connection(url) as connection:
        producer = Producer(connection.channel())
        for body in bodies:
            producer.publish(body, routing_key=QUEUE)


def unacked(url: str) -> int:
    with database(url) as observer:
        row = observer.execute("SELECT count(*) FROM celery.unacked").fetchone()
        assert row is not None
        return int(row[0])


def acknowledge_in_vain(consumer: Consumer) -> None:
    """Nothing comes through since a message was delivered."""
    consumer.consume()
    publish(consumer.url, "held")
    consumer.drain_until(lambda: consumer.got)
    consumer.proxy.strand()
    consumer.got[0].ack()


def test_session_that_is_never_answered(consumer: Consumer) -> None:
    """It is taken for lost: what was acknowledged is, and what comes later is consumed."""
    acknowledge_in_vain(consumer)
    publish(consumer.url, "later")
    consumer.drain_until(lambda: len(consumer.got) == 2)
    assert consumer.got[1].payload == "later"
    assert not consumer.got[1].delivery_info["redelivered"]
    consumer.got[1].ack()
    consumer.drain_until(lambda: unacked(consumer.url) == 0)


def test_consumer_that_leaves(consumer: Consumer) -> None:
    """To cancel does not wait for ever for an answer that is under way."""
    acknowledge_in_vain(consumer)
    consumer.intake.turn()
    begin = time.monotonic()
    consumer.intake.cancel(consumer.intake._roster.subscriptions[0])
    assert time.monotonic() - begin < 20
    consumer.drain_until(lambda: unacked(consumer.url) == 0)


def test_what_somebody_waits_for(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits has a limit of his own, and the server may take its time."""
    consumer.consume()
    pid = consumer.intake.session.backend_pid
    consumer.intake.session.run((Statement("nap", "SELECT pg_sleep(2.5)"), ()))
    monkeypatch.setattr(intake, "STALE_AFTER", 60.0)  # for the other answers the machine may take its time
    publish(consumer.url, "later")
    consumer.drain_until(lambda: consumer.got)
    assert consumer.intake.session.backend_pid == pid
