"""A consumer that waits in a thread of its own, and an ear for the bells."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import kombu
import psycopg
import pytest
from kombu import Connection, Consumer

from celery_postgres.wakeup import SLOTS, Bell
from tests.fixtures.broker import broker, fresh_broker, pytest_configure, pytest_itemcollected
from tests.fixtures.waiting import PATIENCE_S
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
        self.received.put(message.body.decode())
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
def heard(fresh_broker: Broker, new_publisher: Callable[..., Any]) -> Iterator[Callable[[float], list[str]]]:
    """The channels of the bells that were rung since the last call; waits so many seconds for the next."""
    with psycopg.connect(fresh_broker.url, autocommit=True) as connection:
        bell = Bell("celery")
        for statement, _ in (bell.listen(), *map(bell.listen_at, range(SLOTS))):
            connection.execute(statement.text.encode())
        yield lambda wait_s: [notify.channel for notify in connection.notifies(timeout=wait_s)]


@pytest.fixture
def bells(heard: Callable[[float], list[str]]) -> Callable[[float], int]:
    """How many they were."""
    return lambda wait_s: len(heard(wait_s))
