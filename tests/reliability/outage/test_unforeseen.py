"""Errors that nobody foresaw, such as having no descriptor left: no thread ends of them."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kombu import Connection

from celery_postgres.connection import Database
from celery_postgres.dsn import parse
from celery_postgres.errors import DatabaseUnavailable
from celery_postgres.options import Options
from celery_postgres.reopening import Reopening
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.maintenance import Maintenance

QUEUE = "unforeseen"


class Failing:
    """Fails some times, and then does what it should."""

    def __init__(self, original: Any, times: int) -> None:
        self._original = original
        self.left = times

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.left > 0:
            self.left -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._original(*arguments, **options)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with Connection(database_url) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        channel.basic_consume(QUEUE, callback=lambda _: None)
        yield connection


def test_no_descriptor_is_left(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects is told in our words, so kombu tries again."""
    monkeypatch.setattr(psycopg.Connection, "connect", Failing(psycopg.Connection.connect, 1))
    database = Database(parse(database_url), Options())
    with pytest.raises(DatabaseUnavailable, match="Too many open files"):
        database.open()
    session, _server = database.open()
    session.close()


def test_session_that_is_opened_anew() -> None:
    """The next call tries again; nobody waits for an attempt that has failed."""
    reopening = Reopening(Failing(lambda: "session", 1), lambda _: None)
    with pytest.raises(DatabaseUnavailable, match="Too many open files"):
        reopening.get()
    eventually(lambda: opened(reopening) == "session")


def test_session_that_came_when_nobody_asked_any_more(connection: Connection) -> None:
    """It had been asked for, took long, and then the whole connection was made anew: it is closed."""
    transport = connection.transport
    may_come, came = threading.Event(), []

    def slow() -> Any:
        assert may_come.wait(20)
        came.append(transport._database.open())
        return came[0]

    transport._reopening._open = slow
    transport.commands.session.close()
    with pytest.raises(DatabaseUnavailable):
        transport.commands  # noqa: B018  asks for another one
    transport.establish_connection()
    may_come.set()
    eventually(lambda: came and came[0][0].broken is not None)
    assert transport.commands.session.alive()


def opened(reopening: Reopening[str]) -> str | None:
    try:
        return reopening.get()
    except DatabaseUnavailable:
        return None


def test_maintenance_goes_on(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer whose thread of maintenance has ended would be taken for dead."""
    maintenance: Maintenance = connection.transport._maintenance
    rounds = threading.Event()
    original = maintenance._round

    def count(*arguments: Any, **options: Any) -> Any:
        rounds.set()
        return original(*arguments, **options)

    failing = Failing(count, 2)
    monkeypatch.setattr(maintenance, "_round", failing)
    assert rounds.wait(20)
    assert failing.left == 0


def test_lookout_goes_on(connection: Connection, database_url: str) -> None:
    """It is what connects again after a loss."""
    intake = connection.transport.intake
    failing = Failing(lambda: None, 2)
    intake.lookout.on_look = failing
    eventually(lambda: failing.left == 0)
    lost = intake.session.backend_pid
    with psycopg.connect(database_url, autocommit=True) as observer:
        observer.execute("SELECT pg_terminate_backend(%s, 5000)", [lost])
    eventually(lambda: intake.session.backend_pid != lost)
