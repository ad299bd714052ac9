"""A loop that stands still keeps nothing from others."""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

from kombu import Connection, Producer
from kombu.asynchronous import Hub

import celery_postgres  # noqa: F401  registers the schemes
from celery_postgres import watchdog
from tests.fixtures.broker import unacked
from tests.fixtures.proxy import Proxy
from tests.fixtures.waiting import PATIENCE_S, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from celery_postgres.intake import Intake

QUEUE = "watched"


def test_loop_that_stands_still(
    database_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has not handed over goes to another, the log shows where it stands; afterwards it goes on."""
    monkeypatch.setattr(watchdog, "STALLED_AFTER", 1.0)
    got, stuck = [], threading.Event()
    with closing(Hub()) as hub, Connection(database_url) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE, durable=True, auto_delete=False)

        def callback(message: Any) -> None:
            got.append(message)
            if len(got) == 1:
                stuck.wait(PATIENCE_S)

        connection.transport.register_with_event_loop(connection.transport, hub)
        channel.basic_consume(QUEUE, callback=callback)
        connection.transport._loop._runs_tasks = False  # as in a prefork worker
        turning = threading.Event()
        loop = threading.Thread(target=turn, args=(hub, lambda: not turning.is_set()))
        loop.start()
        eventually(lambda: connection.transport._loop._watchdog._thread == loop.ident, what="a first turn")
        producer = Producer(connection)
        with producer.batch():  # so that all of them are claimed together
            for number in range(3):
                producer.publish(str(number).encode(), routing_key=QUEUE, content_type="text/plain")
        with caplog.at_level(logging.WARNING):
            # Where the machine stood still the log may have said so of another line before.
            eventually(lambda: "stuck.wait(" in caplog.text)
            assert "the event loop has not turned for" in caplog.text
            eventually(lambda: unacked(database_url) == 1)
            with Connection(database_url) as other:
                assert other.default_channel.basic_get(QUEUE, no_ack=True).body == b"1"
            stuck.set()
            eventually(lambda: len(got) == 2)
            eventually(lambda: "the event loop turns again" in caplog.text)
        turning.set()
        loop.join()
        connection.transport.unregister_from_event_loop(connection.transport, hub)
        assert [message.body for message in got] == [b"0", b"2"]


def turn(hub: Hub, wanted: Callable[[], bool]) -> None:
    loop = hub.create_loop()
    while wanted():
        next(loop)


def test_claim_that_was_under_way(database_url: str) -> None:
    """What it brings behind the discovery is given back as well."""
    with Proxy(database_url) as proxy, Connection(proxy.url) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        channel.basic_consume(QUEUE, callback=lambda _: None)
        intake = connection.transport.intake
        eventually(lambda: answered(intake))
        proxy.backward.clear()
        with Connection(database_url) as other:
            Producer(other).publish(b"late", routing_key=QUEUE, content_type="text/plain")
            intake._look(next(iter(intake.queue_ids)))
            intake.turn()
            eventually(lambda: unacked(database_url) == 1, what="claim under way")
            assert intake.set_aside()
            proxy.backward.set()
            eventually(lambda: answered(intake) and unacked(database_url) == 0)
            assert other.default_channel.basic_get(QUEUE, no_ack=True).body == b"late"


def answered(intake: Intake) -> bool:
    """Pumped, as another thread than the loop's does it; whether nothing is under way."""
    intake.session.pump_for_others()
    return not intake.session.busy
