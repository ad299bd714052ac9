"""Behind a pooler in transaction mode nothing is lost but speed, and the log says so."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from celery import Celery
from celery.result import AsyncResult
from kombu import Connection

from celery_postgres.errors import ConfigurationError
from tests.fixtures.broker import Broker
from tests.fixtures.record import Record
from tests.fixtures.worker import Site

from .admin import connect, publish, refusal, take
from .pooler import transaction_pooler

SAID = "is behind a transaction pooler: no notifications are heard"


@pytest.fixture
def pooled_url(admin):
    with transaction_pooler(admin.url) as url:
        yield url


def take_and_publish(url, gate, number) -> None:
    gate.wait()
    publish(url, number, queue=f"q{number}")
    for _ in range(5):
        publish(url, take(url, queue=f"q{number}"), queue=f"q{number}")


def test_publish_and_consume(admin, pooled_url, log):
    """The schema is made, messages are stored and arrive; that it is slower is said once."""
    with Connection(pooled_url) as connection:
        queue = connection.SimpleQueue("q")
        for number in range(50):
            queue.put(number)
        received = []
        for _ in range(50):
            message = queue.get(timeout=10)
            received.append(message.payload)
            message.ack()
        assert received == list(range(50))
    assert not any(admin.stored().values())
    assert log.getvalue().count(SAID) == 1


def test_sessions_are_shared(admin, pooled_url):
    """More clients than sessions, each in another's in turn: no statement of one is in another's way."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["celery_postgres.transport", __name__])
    gate = context.Barrier(6)
    processes = [
        context.Process(target=take_and_publish, args=(pooled_url, gate, number)) for number in range(6)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 6
    assert [take(admin.url, queue=f"q{number}") for number in range(6)] == list(range(6))


def test_results(pooled_url):
    """What is stored is found by who waits, at the pace of the poll, also by many at once."""
    app, elsewhere = (
        Celery("any", broker=pooled_url, backend=pooled_url, set_as_current=False) for _ in range(2)
    )
    try:
        with ThreadPoolExecutor(5) as pool:
            waiting = [pool.submit(AsyncResult(str(n), app=app).get, timeout=20) for n in range(5)]
            time.sleep(0.2)
            for number in range(5):
                elsewhere.backend.store_result(str(number), number, "SUCCESS")
            assert [future.result(20) for future in waiting] == list(range(5))
        begin = time.monotonic()
        assert AsyncResult("0", app=app).get(timeout=5) == 0
        assert time.monotonic() - begin < 1
    finally:
        for made in (app, elsewhere):
            made.backend.result_consumer.stop()
            made.backend._results.close()


def test_settings_do_not_stay_behind(admin, pooled_url):
    """A server session is handed on as it was: without our settings, locks and prepared statements."""
    publish(pooled_url)
    assert take(pooled_url) == 1
    assert admin.run(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = ("
        f"SELECT oid FROM pg_database WHERE datname = '{admin.database}')"
    ) == [(0,)]
    for _ in range(6):  # the pooler has three sessions
        with psycopg.connect(pooled_url, prepare_threshold=None) as client:
            row = client.execute(
                "SELECT current_setting('search_path'), current_setting('statement_timeout'),"
                " (SELECT count(*) FROM pg_prepared_statements)"
            ).fetchone()
            assert row == ('"$user", public', "0", 0)


def test_startup_options_are_refused(pooled_url):
    """A pooler does not take `options`, and the message says what to remove."""
    with refusal(ConfigurationError) as told:
        connect(f"{pooled_url}?options=-c%20statement_timeout%3D1000")
    assert told.matches("remove `options` from the URL")


def test_database_that_the_pooler_does_not_find(pooled_url):
    """What the server says to the pooler is said to us."""
    with refusal(ConfigurationError) as told:
        connect(pooled_url.rsplit("/", 1)[0] + "/nowhere")
    assert told.matches("correct the database, or create it: CREATE DATABASE")


def test_worker(admin, pooled_url, tmp_path):
    """A worker starts, runs tasks at the latency of the poll, and ends; it says once why it is slower."""
    site = Site(
        Broker(pooled_url), Record(tmp_path / "record"), {"broker_transport_options": {"poll_interval": 0.5}}
    )
    try:
        worker = site.worker()
        for _ in range(3):
            begin = time.monotonic()
            site.record.wait_for_one(site.send("record"))
            assert time.monotonic() - begin < 3
        assert worker.stop() == 0
        assert sum(SAID in line for line in worker.lines) == 1
    finally:
        site.close()
    assert not any(admin.stored().values())
