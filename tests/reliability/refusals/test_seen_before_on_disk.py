"""Messages are shown to who waits before the disk has them; `delay()` returns when it has."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from kombu import Connection, Consumer, Queue

from tests.fixtures.standby import execute
from tests.fixtures.waiting import eventually

from .publishing import Publisher, stored_bodies

if TYPE_CHECKING:
    from celery_postgres.embedded import EmbeddedPostgres

PUBLISHERS = 3


class Idler:
    """Consumes `q` and acknowledges at once, so it is idle most of the time; connects anew after a crash."""

    def __init__(self, url: str) -> None:
        self.received: set[str] = set()
        self._url = url
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                with Connection(self._url) as connection:
                    self._consume(connection)
            except Connection(self._url).connection_errors:
                continue

    def _consume(self, connection: Connection) -> None:
        def take(message: object) -> None:
            self.received.add(bytes(message.body).decode())  # type: ignore[attr-defined]
            message.ack()  # type: ignore[attr-defined]

        with Consumer(connection, Queue("q"), on_message=take):
            while not self._stopped.is_set():
                try:
                    connection.drain_events(timeout=0.2)
                except TimeoutError:
                    continue

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(30)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["immediate", "kill"])
def test_crash_keeps_what_publish_returned_for(embedded_server: EmbeddedPostgres, mode: str) -> None:
    """The server ends without a checkpoint while publishers publish to an idle consumer at full speed.

    Whatever `publish` returned for has been received, or is stored.
    """
    url = embedded_server.url
    with Connection(url) as connection:
        Queue("q")(connection.channel()).declare()
    idler = Idler(url)
    with ExitStack() as stack:
        publishers = [stack.enter_context(Publisher(url, f"p{n}-")) for n in range(PUBLISHERS)]
        for _ in range(3):
            publishers[0].confirmed_more(150)
            embedded_server.halt(mode)  # type: ignore[arg-type]
            embedded_server.start()
    confirmed = set().union(*(publisher.confirmed for publisher in publishers))
    eventually(lambda: not execute(url, "SELECT 1 FROM celery.ready"), what="the consumer empties the queue")
    idler.stop()
    lost = confirmed - idler.received - set(stored_bodies(url))
    assert len(confirmed) > 450
    assert not lost
