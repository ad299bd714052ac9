"""Who has lost a session goes on hearing the bells."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from kombu import Connection, Consumer, Producer, Queue

from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from kombu.message import Message

POLL_S = 60
HEARD_S = 20


@pytest.mark.parametrize("kind", ["of rows", "of the log"])
def test_bells_are_heard_after_a_loss(database_url: str, kind: str) -> None:
    """A poll would come after a minute. Remote control goes over queues of the log."""
    got: list[Message] = []
    options = f"?poll_interval={POLL_S}&max_poll_interval={POLL_S}"
    with (
        Connection(database_url + options) as connection,
        Connection(database_url) as other,
        psycopg.connect(database_url, autocommit=True) as database,
    ):
        logged = {"exclusive": True, "durable": False}
        queue = Queue("heard", **(logged if kind == "of the log" else {}))(connection.channel())
        queue.declare()
        with Consumer(connection.channel(), [queue], on_message=got.append):
            intake = connection.transport.intake
            lost = intake.session.backend_pid
            database.execute("SELECT pg_terminate_backend(%s, 5000)", [lost])

            def drain() -> None:
                try:
                    connection.drain_events(timeout=0.1)
                except TimeoutError:
                    pass

            def is_back() -> bool:
                return not intake.session.away and intake.session.backend_pid != lost

            eventually(lambda: drain() or is_back(), what="a new session")
            until = time.monotonic() + 1  # the looks that follow a return, and going idle, are over by then
            while time.monotonic() < until:
                drain()
            Producer(other.channel()).publish("ring", routing_key="heard")
            eventually(lambda: drain() or got, HEARD_S, "the message")
