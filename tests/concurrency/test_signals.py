"""A signal handler runs in the middle of anything: what it does must not get mixed up with what it met.

Celery's handler for a cold shutdown cancels the consumers of the loop that it interrupts; the one for a soft
time limit raises, wherever the task is.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from celery_postgres import dsn
from celery_postgres.connection import Database
from celery_postgres.errors import DatabaseUnavailable
from celery_postgres.options import Options
from celery_postgres.sql import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_postgres.wire import Session

ONE = Statement("one", "SELECT 1")
TWO = Statement("two", "SELECT 2")


class TimeLimit(Exception):
    """What a handler raises in the middle of something else."""


@dataclass(frozen=True, eq=False)
class Interrupted(Statement):
    """A signal arrives while it is being sent, behind another statement of its batch."""

    def sql(self, schema: str) -> str:
        signal.raise_signal(signal.SIGUSR1)
        return super().sql(schema)


THREE = Interrupted("three", "SELECT 3")


@pytest.fixture
def session(url) -> Iterator[Session]:
    session, _ = Database(dsn.parse(url), Options()).open()
    yield session
    session.close()


@pytest.fixture
def on_signal() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Sets what the handler does."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda act: signal.signal(signal.SIGUSR1, lambda *_: act()) and None
    signal.signal(signal.SIGUSR1, before)


def answers(session: Session, *statements: Statement) -> list[int]:
    return [rows.integer(0, 0) for rows in session.run(*((statement, ()) for statement in statements))]


def test_handler_that_talks(session, on_signal):
    """In the middle of a message it is refused, and what it interrupted goes on unharmed."""
    refused: list[Exception] = []

    def talk() -> None:
        try:
            session.run((TWO, ()))
        except DatabaseUnavailable as error:
            refused.append(error)

    on_signal(talk)
    assert answers(session, ONE, THREE) == [1, 3]
    assert len(refused) == 1
    assert session.alive()
    assert answers(session, TWO) == [2]


def test_handler_that_talks_between_messages(session, on_signal):
    """While an answer is awaited it may: every answer finds its question."""
    heard: list[list[int]] = []
    on_signal(lambda: heard.append(answers(session, TWO)))
    batch = session.send([(ONE, ())], lambda _: signal.raise_signal(signal.SIGUSR1))
    assert session.wait(batch)[0].integer(0, 0) == 1
    assert heard == [[2]]
    assert answers(session, ONE) == [1]


def test_handler_that_raises_while_sending(session, on_signal):
    """Half a batch is under way: the session is given up, so no later call gets the answer to it."""

    def limit() -> None:
        raise TimeLimit

    on_signal(limit)
    with pytest.raises(TimeLimit):
        session.run((ONE, ()), (THREE, ()))
    assert not session.alive()
    with pytest.raises(DatabaseUnavailable, match="interrupted"):
        session.run((TWO, ()))


def test_handler_that_raises_while_reading(session, on_signal):
    """An answer was taken in and told to nobody: the session is given up."""

    def limit() -> None:
        raise TimeLimit

    on_signal(limit)
    batch = session.send([(ONE, ())], lambda _: signal.raise_signal(signal.SIGUSR1))
    with pytest.raises(TimeLimit):
        session.wait(batch)
    assert not session.alive()


def test_handler_that_raises_while_waiting(session, on_signal, hand):
    """Nothing is lost: the answer comes later, to the call that it belongs to."""
    sleep = Statement("sleep", "SELECT 4 FROM pg_advisory_xact_lock(1)")
    hand.begin()
    hand.sql("SELECT pg_advisory_xact_lock(1)")

    def limit() -> None:
        raise TimeLimit

    on_signal(limit)
    batch = session.send([(sleep, ())])
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(TimeLimit):
            session.wait(batch)
    finally:
        timer.join()
        hand.commit()
    assert answers(session, TWO) == [2]
    assert batch.results[0].integer(0, 0) == 4


def test_interrupted_wait_leaves_the_socket_to_others(session, on_signal) -> None:
    """A time limit strikes just where this thread begins to wait at the socket: others still wait there."""

    def strike() -> None:
        raise TimeLimit

    class Struck(dict[None, int]):
        def setdefault(self, key: None, default: int = 0) -> int:
            taken = super().setdefault(key, default)
            if struck:
                struck.pop()
                signal.raise_signal(signal.SIGUSR1)
            return taken

    on_signal(strike)
    struck = [True]
    session._at_socket = Struck()
    with pytest.raises(TimeLimit):
        session.wait_readable(1)
    assert not session._at_socket
    session._at_socket[None] = threading.get_ident()  # had it struck a moment later
    session.wait_readable(0)
    assert not session._at_socket


def test_session_that_another_thread_ends(session, monkeypatch):
    """Who looks at the socket at that moment is told that the session is lost."""
    pump = session.pump

    def pump_and_lose() -> None:
        pump()
        ending = threading.Thread(target=session.give_up, args=("ended meanwhile",))
        ending.start()
        ending.join()

    monkeypatch.setattr(session, "pump", pump_and_lose)
    os.write(session.fileno(), b"not of the protocol")  # the server says so, and hangs up
    session.wait_readable(5)
    assert not session.alive()
    assert not session.neglected()
    with pytest.raises(DatabaseUnavailable, match="ended meanwhile"):
        session.wait_readable(0)
