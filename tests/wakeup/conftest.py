"""A consumer that waits in a thread of its own, and an ear for the bells."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import kombu
import psycopg
import pytest
from kombu import Connection, Consumer

from celery_postgres.wakeup import SLOTS, Bell
from tests.fixtures.broker import broker, fresh_broker, pytest_configure, pytest_itemcollected
from tests.fixtures.waiting import PATIENCE_S, eventually
from tests.fixtures.worker import pytest_runtest_makereport, site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fixtures.broker import Broker

__all__ = [
    "broker",
    "fresh_broker",
    "pytest_configure",
    "pytest_itemcollected",
    "pytest_runtest_makereport",
    "site",
]


class Sleeper:
    """Consumes the queue `q`; each message is acknowledged as soon as `may_ack` is set, and kept."""

    def __init__(self, url: str, prefetch_count: int, options: dict[str, Any]) -> None:
        self.may_ack = threading.Event()
        self.may_ack.set()
        self.stops_at: str | None = None
        """The message with which that is cleared."""
        self._url, self._prefetch_count, self._options = url, prefetch_count, options
        self.received: SimpleQueue[Any] = SimpleQueue()
        self._ready = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._consume, name="sleeper", daemon=True)

    def take(self, count: int, timeout_s: float = PATIENCE_S) -> list[Any]:
        """The next so many bodies; AssertionError if one does not come within the time after the other."""
        taken: list[Any] = []
        while len(taken) < count:
            try:
                taken.append(self.received.get(timeout=timeout_s))
            except Empty:
                raise AssertionError(f"only {taken} of {count} within {timeout_s:g} s") from None
        return taken

    def __enter__(self) -> Sleeper:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.may_ack.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _consume(self) -> None:
        with Connection(self._url, transport_options=self._options) as connection:
            self.connection = connection
            channel = connection.channel()
            with Consumer(
                channel, [kombu.Queue("q")], on_message=self._on_message, prefetch_count=self._prefetch_count
            ):
                self._ready.set()
                while not self._end.is_set():
                    try:
                        connection.drain_events(timeout=0.5)
                    except TimeoutError:
                        pass

    def _on_message(self, message: Any) -> None:
        body = message.body.decode()
        if body == self.stops_at:
            self.may_ack.clear()
        self.received.put(body)
        self.may_ack.wait()
        message.ack()


@pytest.fixture
def new_sleeper(fresh_broker: Broker) -> Iterator[Callable[..., Sleeper]]:
    """Starts consumers; keywords are their transport options."""
    with ExitStack() as stack:
        yield lambda prefetch_count=1, **options: stack.enter_context(
            Sleeper(fresh_broker.url, prefetch_count, options)
        )


@pytest.fixture
def new_publisher(fresh_broker: Broker) -> Iterator[Callable[..., Callable[[Any], None]]]:
    """Makes functions that publish to `q`; keywords are their transport options."""
    with ExitStack() as stack:

        def make(**options: Any) -> Callable[[Any], None]:
            connection = stack.enter_context(Connection(fresh_broker.url, transport_options=options))
            producer = connection.Producer()
            return lambda body: producer.publish(body, routing_key="q")

        yield make


@pytest.fixture
def heard(fresh_broker: Broker, new_publisher: Callable[..., Any]) -> Iterator[Callable[..., list[str]]]:
    """The channels of the bells that were rung between the last call and this one, which may wait first."""
    with psycopg.connect(fresh_broker.url, autocommit=True) as connection:
        bell, told = Bell("celery"), []
        connection.add_notify_handler(lambda notify: told.append(notify.channel))
        connection.execute("LISTEN now")
        for statement, _ in (bell.listen(), *map(bell.listen_at, range(SLOTS))):
            connection.execute(statement.text.encode())

        def heard(wait_s: float = 0) -> list[str]:
            time.sleep(wait_s)
            connection.execute("NOTIFY now")  # comes behind all that was rung before
            eventually(lambda: connection.execute("SELECT") and "now" in told)
            end = told.index("now")
            rung = told[:end]
            del told[: end + 1]
            return rung

        yield heard


@pytest.fixture
def bells(heard: Callable[..., list[str]]) -> Callable[..., int]:
    """How many they were."""
    return lambda wait_s=0: len(heard(wait_s))


@pytest.fixture
def waiting_together(fresh_broker: Broker) -> Iterator[Callable[[], int]]:
    """How many consumers share the lock by which publishers see that somebody waits."""
    query = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2
        AND mode = 'ShareLock' AND granted AND classid = %s::bigint
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    lock_class = Bell("celery").lock_class % 2**32
    with psycopg.connect(fresh_broker.url, autocommit=True) as connection:

        def count() -> int:
            row = connection.execute(query, [lock_class]).fetchone()
            assert row is not None
            return int(row[0])

        yield count
