"""A worker that is told to stop while the database is away."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.waiting import eventually

from .conftest import LATE

if TYPE_CHECKING:
    from pathlib import Path

    from celery_postgres.embedded import EmbeddedPostgres
    from tests.fixtures.worker import Site

AWAY = "the database is away, trying again"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=["warm", "cold"])
def test_stops_within_seconds(
    own_site: Site, embedded_server: EmbeddedPostgres, number: signal.Signals, tmp_path: Path
) -> None:
    """It does not wait for the database, and says what it could not tell it; nothing is lost."""
    worker = own_site.worker("-Q", "celery", concurrency=1, worker_prefetch_multiplier=3, **LATE)
    warm, go = number == signal.SIGTERM, tmp_path / "go"
    running = own_site.send("hold", str(go)) if warm else own_site.send("sleep_at_first", 600)
    own_site.record.wait_for_one(running)
    waiting = [own_site.send("record") for _ in range(2)]
    eventually(lambda: own_site.broker.unacked() == 3)
    # What Celery does not know to run it does not cancel.
    eventually(lambda: own_site.inspect(worker).active()[worker.nodename])
    embedded_server.halt("immediate")
    worker.wait_for_line(AWAY)
    worker.send_signal(number)
    worker.wait_for_line("Warm shutdown" if warm else "Cold shutdown", 60)
    go.touch()
    worker.wait(60)
    worker.wait_for_line("the consumer leaves while the database is away")
    embedded_server.start()
    if warm:  # it had run to its end, and its acknowledgement did not reach the server
        worker.wait_for_line("1 acknowledgements or rejections did not reach the server")
    other = own_site.worker("-Q", "celery", concurrency=1, **LATE)
    own_site.record.wait_for([running, *waiting], "begin", 60)
    eventually(lambda: own_site.broker.unacked() == 0, 60)
    assert other.alive


def test_stops_as_ever_right_after_a_loss(
    own_site: Site, embedded_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """A short outage at the end is waited for: what was not begun is given back at once."""
    worker = own_site.worker("-Q", "celery", concurrency=1, worker_prefetch_multiplier=3, **LATE)
    running = own_site.send("hold", str(tmp_path / "go"))
    own_site.record.wait_for_one(running)
    waiting = [own_site.send("record") for _ in range(2)]
    eventually(lambda: own_site.broker.unacked() == 3)
    embedded_server.restart("fast")
    worker.send_signal(signal.SIGTERM)
    worker.wait_for_line("Warm shutdown")
    (tmp_path / "go").touch()
    worker.wait(60)
    assert own_site.broker.unacked() == 0
    assert own_site.broker.waiting("celery") == len(waiting)
    assert own_site.record.counts() == {running: 1}
