"""Bells are hints: who waits is woken, who is busy is left alone, and without any there is the poll."""

from __future__ import annotations

import random
import time
from contextlib import closing

import psycopg
import pytest
from kombu import Connection, Consumer, Queue
from kombu.asynchronous import Hub

from celery_postgres import pacer
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.ours("how our consumers are woken")

# No poll comes to the rescue within a test.
NEVER = {"poll_interval": 600, "max_poll_interval": 600}

ROUNDS = 150
STATEMENTS_PER_S = 20


def test_publisher_and_consumer_always_meet(new_sleeper, new_publisher):
    """The consumer goes idle while the publisher commits, in many ways: no message waits for the poll."""
    sleeper, publish = new_sleeper(**NEVER), new_publisher()
    chance = random.Random(ROUNDS)
    for number in range(ROUNDS):
        # Many in a row keep the consumer busy, so that it must go idle anew while the publisher is quiet.
        count = chance.choice([1, 2, 12])
        for part in range(count):
            publish(f"{number}.{part}")
        assert sleeper.take(count) == [f"{number}.{part}" for part in range(count)]
        time.sleep(chance.choice([0, 0.01, 0.2]) * chance.random())


@pytest.mark.parametrize(
    ("consumer", "publisher"),
    [({"notify": False}, {}), ({}, {"notify": False})],
    ids=["consumer", "publisher"],
)
def test_lost_bells_cost_only_latency(new_sleeper, new_publisher, consumer, publisher):
    """`notify=false` on one side: each message is found by the next poll."""
    sleeper = new_sleeper(poll_interval=0.5, max_poll_interval=0.5, **consumer)
    publish = new_publisher(**publisher)
    for number in range(5):
        time.sleep(0.3)  # past the looks that follow the last message
        publish(str(number))
        assert sleeper.take(1) == [str(number)]


def test_busy_consumer_gets_no_bells(new_sleeper, new_publisher, bells, waiting_together):
    """Nobody rings for one that has a backlog; when it has none any more, it is woken again."""
    sleeper, publish = new_sleeper(**NEVER), new_publisher()
    eventually(lambda: waiting_together() == 1, what="the consumer waits")
    publish("first")
    assert sleeper.take(1) == ["first"]
    assert bells() >= 1
    sleeper.may_ack.clear()
    for number in range(20):
        publish(str(number))
    sleeper.take(1)
    sleeper.stops_at = "10"  # in the middle of its backlog
    sleeper.may_ack.set()
    sleeper.take(10)
    bells()
    for number in range(10):
        publish(f"late {number}")
        time.sleep(0.015)  # longer than the quiet time
    assert bells(0.3) == 0
    sleeper.may_ack.set()
    sleeper.take(19)
    eventually(lambda: waiting_together() == 1, what="the consumer waits again")
    bells()
    publish("last")
    assert sleeper.take(1) == ["last"]
    assert bells() >= 1


def test_idle_worker_costs_little(site):
    """What a worker that has nothing to do asks of the server, each second."""
    site.worker("-E", "-Q", "celery", pool="solo")
    site.record.wait_for_one(site.send("record"))
    with psycopg.connect(site.broker.url, autocommit=True) as connection:

        def transactions() -> int:
            row = connection.execute(
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
            ).fetchone()
            assert row is not None
            return int(row[0])

        time.sleep(3)
        began, before = time.monotonic(), transactions()
        time.sleep(8)
        rate = (transactions() - before) / (time.monotonic() - began)
    print(f"{rate:.1f} transactions/s")
    assert 0 < rate < STATEMENTS_PER_S


def test_acknowledgement_leaves_as_it_comes(fresh_broker, new_publisher, monkeypatch):
    """In an event loop that stands still behind it, and without the thread that helps out then."""
    monkeypatch.setattr(pacer, "ACK_DELAY", 600.0)
    messages, publish = [], new_publisher()
    with (
        Connection(fresh_broker.url) as connection,
        Consumer(connection.channel(), [Queue("q")], on_message=messages.append, prefetch_count=4),
        psycopg.connect(fresh_broker.url, autocommit=True) as server,
        closing(Hub()) as hub,
    ):
        connection.register_with_event_loop(hub)
        publish("one")
        loop = hub.create_loop()
        while not messages or connection.connection.intake.session.busy:
            next(loop)
        messages[0].ack()
        eventually(lambda: not server.execute("SELECT FROM celery.unacked").fetchall())
        connection.connection.unregister_from_event_loop(connection.connection, hub)
