"""Seconds from the moment in which the server accepts connections again to the first task claimed of it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres.errors import DatabaseUnavailable
from tests.fixtures.standby import NAME, confirm_by, new_standby, url_of_both
from tests.fixtures.waiting import eventually

from .conftest import BEGUN_ANEW, LATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_postgres.embedded import EmbeddedPostgres
    from tests.fixtures.worker import Site

pytestmark = pytest.mark.long

TIMES = 5
RESTARTED_S = 2.0
PROMOTED_S = 5.0
#: Long enough for every outage of a test, and short enough to see its end.
RUNNING_S = 40
UNDONE = (
    "was undone by a crash of the server, and another consumer has it",
    "where that was undone, another consumer has executed them again",
)
#: Without it a publisher that repeats would double what was consumed meanwhile.
DEDUP = {"broker_transport_options": {"publish_dedup": True}}


class Doorkeeper(threading.Thread):
    """Knocks until a server takes writes."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = f"{url}?target_session_attrs=read-write&connect_timeout=2"
        self.opened_at = 0.0
        self.start()

    def run(self) -> None:
        while not self.opened_at:
            try:
                psycopg.connect(self._url).close()
                self.opened_at = time.monotonic()
            except psycopg.OperationalError:
                time.sleep(0.002)


@contextmanager
def load(site: Site) -> Iterator[list[str]]:
    """A publisher that does not give up; yields the ids of what it was told is stored."""
    sent: list[str] = []
    stopped = threading.Event()

    def publish() -> None:
        while not stopped.wait(0.005):
            try:
                sent.append(site.send("record", retry=True, retry_policy={"max_retries": None}))
            except DatabaseUnavailable:
                pass  # its outcome is unknown, and it is not counted

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        yield sent
    finally:
        stopped.set()
        publisher.join()


def seconds_to_first_claim(site: Site, url: str, end: Callable[[], None], begin: Callable[[], None]) -> float:
    """Between `end()` and `begin()` nobody answers at `url`; no worker holds a short task then."""
    end()
    time.sleep(0.5)  # what was in hand has been executed
    door = Doorkeeper(url)
    begin()
    eventually(lambda: door.opened_at)
    opened_at = door.opened_at
    later = site.record.wait_until(
        lambda entries: any(entry.monotonic > opened_at and entry.event == "begin" for entry in entries),
        30,
        "task after the outage",
    )
    return (
        min(entry.monotonic for entry in later if entry.monotonic > opened_at and entry.event == "begin")
        - opened_at
    )


@contextmanager
def at_work(site: Site, *, crashes: bool = False, promoted: bool = False) -> Iterator[None]:
    """Two workers under load, each with room, and two tasks that run over everything that happens.

    Afterwards nothing is lost, and Celery saw nothing of it. Nothing ran twice, unless the server `crashes`,
    and with it forgot what had been executed just now: then a log says so. Also where another server is
    `promoted` a log may speak of it, as nothing tells what that one has not been sent.
    """
    workers = [
        site.worker("-Q", "celery", pool=pool, concurrency=2, worker_prefetch_multiplier=1, **LATE)
        for pool in ("prefork", "threads")
    ]
    running = [site.send("sleep_for", RUNNING_S) for _ in range(2)]
    site.record.wait_for(running)
    with load(site) as sent:
        eventually(lambda: len(site.record.counts()) > 100)
        yield
    site.record.wait_for([*sent, *running], timeout_s=30)
    site.record.wait_for(running, "end", RUNNING_S)
    eventually(lambda: site.broker.unacked() == 0)
    again = {id_: count for id_, count in site.record.counts().items() if count > 1}
    told = [line for worker in workers for line in worker.lines if any(words in line for words in UNDONE)]
    assert told == [] or crashes or promoted
    assert again == {} or crashes
    assert [id_ for id_ in again if not any(id_ in line for line in told)] == []
    print(f"executed again: {len(again)}")
    assert {site.record.counts()[id_] for id_ in running} == {1}
    for worker in workers:
        assert not [line for line in worker.lines if BEGUN_ANEW in line or "Traceback" in line]
        assert worker.alive


def test_first_claim_after_a_restart(
    embedded_server: EmbeddedPostgres, new_site: Callable[..., Site]
) -> None:
    """Restarted in order, under load."""
    site = new_site(embedded_server.url, **DEDUP)
    with at_work(site):
        took = []
        for _ in range(TIMES):
            took.append(
                seconds_to_first_claim(site, embedded_server.url, embedded_server.halt, embedded_server.start)
            )
            begun = len(site.record.counts())
            eventually(lambda begun=begun: len(site.record.counts()) > begun + 100, what="load")  # type: ignore[misc]
    print("first claim after a restart, s:", *(f"{seconds:.3f}" for seconds in took))
    assert max(took) <= RESTARTED_S


@pytest.mark.parametrize("number", range(TIMES))
def test_first_claim_after_a_promotion(
    embedded_server: EmbeddedPostgres, new_site: Callable[..., Site], number: int
) -> None:
    """A synchronous standby takes the place of a primary that ends in order, or crashes; under load."""
    with new_standby(embedded_server) as standby:
        confirm_by(embedded_server, NAME)
        site = new_site(url_of_both(embedded_server, standby), **DEDUP)
        mode = "fast" if number % 2 else "immediate"
        with at_work(site, crashes=mode == "immediate", promoted=True):
            took = seconds_to_first_claim(
                site, standby.url, lambda: embedded_server.halt(mode), standby.promote
            )
        print(f"first claim after a promotion ({mode}): {took:.3f} s")
        assert took <= PROMOTED_S
