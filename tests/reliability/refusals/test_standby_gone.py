"""Commits that wait for a standby which is not there: nobody hangs, and nobody is told that all is well."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from celery import Celery
from kombu import Connection, Queue
from kombu.exceptions import OperationalError

from celery_postgres.errors import DatabaseUnavailable
from tests.fixtures.database import new_server
from tests.fixtures.standby import confirm_by, execute
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.embedded import EmbeddedPostgres

WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def private_server(pytestconfig: pytest.Config) -> Iterator[EmbeddedPostgres]:
    """A server with a queue `q`."""
    with new_server(pytestconfig) as server:
        with Connection(server.url) as connection:
            Queue("q")(connection.channel()).declare()
        yield server


@pytest.fixture
def url(private_server: EmbeddedPostgres) -> Iterator[str]:
    """Commits there wait for a standby that does not exist."""
    confirm_by(private_server, "nobody")
    yield private_server.url
    confirm_by(private_server, "")
    execute(private_server.url, "TRUNCATE celery.message, celery.ready, celery.published, celery.result")


def publish(url: str, **options: object) -> None:
    with Connection(url, transport_options=options) as connection:
        connection.Producer(routing_key="q").publish("x", retry=False)


@pytest.mark.parametrize("dedup", [False, True])
def test_publisher_hears_that_the_outcome_is_unknown(url: str, dedup: bool) -> None:
    """After `publish_timeout`; the message is stored, and no session of the server goes on waiting."""
    begin = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="synchronous_standby_names") as told:
        publish(url, publish_timeout=0.5, publish_dedup=dedup)
    assert 0.5 <= time.monotonic() - begin < 5
    assert "committed locally" in str(told.value)
    assert execute(url, "SELECT count(*) FROM celery.message") == [(1,)]
    eventually(lambda: not execute(url, WAITING), what="nobody waits for the standby")


def test_cancel_by_somebody_else_is_no_success(url: str) -> None:
    """Somebody ends the wait; the server says success, with a warning, and the publisher gets an error."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            publish(url)
        except DatabaseUnavailable as exc:
            errors.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    eventually(lambda: execute(url, WAITING), what="the publisher waits")
    execute(url, f"SELECT pg_cancel_backend(pid) FROM ({WAITING}) AS waiting")
    thread.join(20)
    assert len(errors) == 1
    assert "might not have been replicated" in str(errors[0])


def test_retry_waits_for_the_standby_too(url: str, private_server: EmbeddedPostgres) -> None:
    """A repeated attempt finds the message stored and is no success either, until the standby is back."""
    with Connection(url, transport_options={"publish_timeout": 0.5}) as connection:
        producer = connection.Producer(routing_key="q")
        policy = {"max_retries": 1, "interval_start": 0}
        with pytest.raises(OperationalError):
            producer.publish("x", retry=True, retry_policy=policy)
    with Connection(url, transport_options={"publish_timeout": 0.5}) as connection:
        timer = threading.Timer(0.7, confirm_by, (private_server, ""))
        timer.start()
        producer = connection.Producer(routing_key="q")
        producer.publish("y", retry=True, retry_policy={"max_retries": 10, "interval_start": 0})
        timer.join()
    assert execute(url, "SELECT count(*) FROM celery.message") == [(2,)]


def test_result_is_stored_again_until_it_is_confirmed(url: str, private_server: EmbeddedPostgres) -> None:
    """A worker's result is no success before the standby has it, and holds no session up for ever."""
    options = {"statement_timeout": 0.5}
    app = Celery("any", broker=url, backend=url, set_as_current=False)
    app.conf.result_backend_transport_options = options
    try:
        timer = threading.Timer(1.0, confirm_by, (private_server, ""))
        timer.start()
        begin = time.monotonic()
        app.backend.store_result("id", 42, "SUCCESS")
        assert time.monotonic() - begin >= 0.9
        timer.join()
    finally:
        app.backend._results.close()
        app.close()
    assert execute(url, "SELECT state FROM celery.result") == [("SUCCESS",)]
    eventually(lambda: not execute(url, WAITING), what="nobody waits for the standby")
