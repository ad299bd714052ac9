"""Every session of the clients is ended again and again, while messages are published and tasks run."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

from celery_postgres.errors import DatabaseUnavailable
from tests.fixtures.waiting import eventually

from .conftest import BEGUN_ANEW, LATE, end_sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fixtures.worker import Site


def storm(site: Site, seconds: float) -> None:
    """Workers with late acknowledgement, a publisher that repeats, and an enemy."""
    workers = [
        site.worker("-Q", "celery", pool=pool, concurrency=2, worker_prefetch_multiplier=4, **LATE)
        for pool in ("prefork", "threads")
    ]
    long = [site.send("sleep_for", seconds / 2) for _ in range(2)]
    site.record.wait_for(long)
    end = time.monotonic() + seconds
    sent: list[str] = []

    def publish() -> None:
        while time.monotonic() < end:
            try:
                sent.append(site.send("record", retry=True, retry_policy={"max_retries": None}))
            except DatabaseUnavailable:
                pass  # its outcome is unknown, and it is not counted
            time.sleep(random.uniform(0, 0.02))

    publisher = threading.Thread(target=publish)
    publisher.start()
    storms = 0
    while time.monotonic() < end:
        time.sleep(1.0)
        end_sessions(site.broker.url)
        storms += 1
    publisher.join()
    assert storms >= 3
    assert len(site.record.counts()) > len(long)
    site.record.wait_for([*sent, *long], "begin", 30)
    site.record.wait_for(long, "end", 30)
    eventually(lambda: site.broker.unacked() == 0)
    again = {id_: n for id_, n in site.record.counts().items() if n > 1}
    assert not again
    for worker in workers:
        assert not [line for line in worker.lines if BEGUN_ANEW in line]
        assert worker.alive


@pytest.fixture
def site(database_url: str, new_site: Callable[..., Site]) -> Site:
    """Without `publish_dedup` a publisher that repeats would double what was consumed meanwhile."""
    return new_site(database_url, broker_transport_options={"publish_dedup": True})


def test_sessions_ended_every_second(site: Site) -> None:
    """Nothing is lost, nothing runs twice, and tasks run between the blows."""
    storm(site, 6)


@pytest.mark.long
def test_sessions_ended_every_second_for_long(site: Site) -> None:
    """The same for half a minute."""
    storm(site, 30)
