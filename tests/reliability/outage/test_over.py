"""A connection whose consumer was given up, in a process that is no worker: it can be used again."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
from celery.exceptions import SoftTimeLimitExceeded
from kombu import Connection, Queue

from celery_postgres import wire
from tests.fixtures.waiting import eventually

from .conftest import database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kombu import Message


@pytest.fixture
def idle(database_url: str) -> Iterator[Connection]:
    """A connection that has consumed once, as `inspect` does, and does no more."""
    with Connection(f"{database_url}?grace=0.2") as connection:
        channel = connection.channel()
        Queue("q")(channel).declare()
        channel.basic_cancel(channel.basic_consume("q", no_ack=True, callback=lambda _: None))
        yield connection


def declare_dead(connection: Connection, url: str) -> None:
    """As whoever sweeps does, to one that was away for longer than its grace."""
    session = connection.transport.intake.session
    with database(url) as observer:
        observer.execute("DELETE FROM celery.consumer")
        observer.execute(f"SELECT pg_terminate_backend({session.backend_pid})")
    eventually(lambda: session.over is not None)


def test_connection_that_is_idle(idle: Connection, database_url: str) -> None:
    declare_dead(idle, database_url)
    idle.ensure_connection()
    assert idle.connected
    pids = set()
    for _ in range(3):
        producer = idle.Producer(routing_key="q")
        producer.publish("x")
        pids.add(idle.transport.commands.session.backend_pid)
    assert len(pids) == 1
    assert idle.SimpleQueue("q").get(timeout=10).payload == "x"


def test_child_of_it(idle: Connection, database_url: str) -> None:
    """A forked child uses what it inherited as its own, and the parent goes on."""
    parents = idle.transport.intake.session.backend_pid
    child = os.fork()
    if child == 0:
        status = 1
        try:
            idle.Producer(routing_key="q").publish("of the child")
            channel = idle.channel()
            tag = channel.basic_consume("q", no_ack=True, callback=lambda _: None)
            channel.basic_cancel(tag)
            status = 0 if idle.connected else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert idle.connected
    assert idle.transport.intake.session.backend_pid == parents


def test_interrupted_get_gives_its_message_back(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time limit, say, strikes while the claim is under way."""
    with Connection(database_url) as connection:
        channel = connection.channel()
        Queue("q")(channel).declare()
        for name in ("first", "second"):
            connection.Producer(routing_key="q").publish(name)
        assert channel.basic_get("q").payload == "first"
        wait_for, struck = wire._wait_for, threading.Event()
        claims_over = connection.transport.intake.session.fileno()

        def strike(descriptor: int, *, writing: bool, timeout: float) -> bool:
            if timeout and descriptor == claims_over and not struck.is_set():
                struck.set()
                raise SoftTimeLimitExceeded
            return wait_for(descriptor, writing=writing, timeout=timeout)

        monkeypatch.setattr(wire, "_wait_for", strike)
        with psycopg.connect(database_url) as holder:
            holder.execute("LOCK TABLE celery.ready")  # so that the claim has to be waited for
            with pytest.raises(SoftTimeLimitExceeded):
                channel.basic_get("q")
        assert struck.is_set()
        got: list[Message] = []

        def gets() -> bool:
            got.extend(filter(None, [channel.basic_get("q")]))
            return bool(got)

        eventually(gets)
        assert got[0].payload == "second"
        with database(database_url) as observer:
            eventually(lambda: observer.execute("SELECT count(*) FROM celery.unacked").fetchone() == (2,))
