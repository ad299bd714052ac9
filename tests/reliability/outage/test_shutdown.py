"""A worker that is told to stop while the database is away."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.waiting import eventually

from .conftest import LATE

if TYPE_CHECKING:
    from celery_postgres.embedded import EmbeddedPostgres
    from tests.fixtures.worker import Site

AWAY = "the database is away, trying again"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=["warm", "cold"])
def test_stops_within_seconds(
    own_site: Site, embedded_server: EmbeddedPostgres, number: signal.Signals
) -> None:
    """It does not wait for the database, and says what it could not tell it; nothing is lost."""
    worker = own_site.worker("-Q", "celery", concurrency=1, worker_prefetch_multiplier=3, **LATE)
    running = own_site.send("sleep_for", 3)
    own_site.record.wait_for_one(running)
    waiting = [own_site.send("record") for _ in range(2)]
    eventually(lambda: own_site.broker.unacked() == 3)
    embedded_server.halt("immediate")
    worker.wait_for_line(AWAY, 10)
    worker.stop(number, timeout_s=20)
    worker.wait_for_line("the consumer leaves while the database is away", 1)
    embedded_server.start()
    if number == signal.SIGTERM:  # it had run to its end, and its acknowledgement did not reach the server
        worker.wait_for_line("1 acknowledgements or rejections did not reach the server", 1)
    other = own_site.worker("-Q", "celery", concurrency=1, **LATE)
    own_site.record.wait_for([running, *waiting], "begin", 60)
    eventually(lambda: own_site.broker.unacked() == 0, 60)
    assert other.alive


def test_stops_as_ever_right_after_a_loss(own_site: Site, embedded_server: EmbeddedPostgres) -> None:
    """A short outage at the end is waited for: what was not begun is given back at once."""
    worker = own_site.worker("-Q", "celery", concurrency=1, worker_prefetch_multiplier=3, **LATE)
    running = own_site.send("sleep_for", 4)
    own_site.record.wait_for_one(running)
    waiting = [own_site.send("record") for _ in range(2)]
    eventually(lambda: own_site.broker.unacked() == 3)
    embedded_server.restart("fast")
    worker.stop(timeout_s=20)
    assert own_site.broker.unacked() == 0
    assert own_site.broker.waiting("celery") == len(waiting)
    assert own_site.record.counts() == {running: 1}
