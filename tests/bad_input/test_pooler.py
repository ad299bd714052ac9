"""Behind a pooler in transaction mode nothing is lost but speed, as the log says; in session mode nothing."""

from __future__ import annotations

import multiprocessing
import signal
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from celery import Celery
from celery.result import AsyncResult
from kombu import Connection

from celery_postgres.errors import ConfigurationError
from celery_postgres.sql import Statement
from tests.fixtures.broker import Broker
from tests.fixtures.pooler import pooler
from tests.fixtures.record import Record
from tests.fixtures.waiting import PATIENCE_S, eventually
from tests.fixtures.worker import Site

from .admin import connect, publish, refusal, take

SAID = "is behind a transaction pooler: no notifications are heard"


@pytest.fixture
def pooled_url(admin):
    with pooler(admin.url) as url:
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
        took = []
        for _ in range(5):
            begin = time.monotonic()
            assert AsyncResult("0", app=app).get(timeout=PATIENCE_S) == 0
            took.append(time.monotonic() - begin)
        assert statistics.median(took) < 1
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


@pytest.fixture
def site(pooled_url, tmp_path):
    made = Site(
        Broker(pooled_url), Record(tmp_path / "record"), {"broker_transport_options": {"poll_interval": 0.5}}
    )
    yield made
    made.close()


def test_worker(admin, site):
    """A worker starts, runs tasks at the latency of the poll, and ends."""
    worker = site.worker()
    took = []
    for _ in range(3):
        begin = time.monotonic()
        site.record.wait_for_one(site.send("record"))
        took.append(time.monotonic() - begin)
    assert statistics.median(took) < 3
    assert worker.stop() == 0
    assert not any(admin.stored().values())


def test_tasks_that_publish(admin, site):
    """Retries, ETAs and tasks that send tasks work; each process says at most once that it is slow."""
    worker = site.worker(concurrency=2)
    retried, later = site.send("retry_twice", 0.5), site.send("record", countdown=1)
    relayed = [site.send("relay", 2) for _ in range(4)]
    site.record.wait_for_one(retried, "end", timeout_s=30)
    site.record.wait_for([later, *relayed], timeout_s=30)
    site.record.wait_until(lambda entries: len(entries) == 4 + 1 + 4 * 3, 30, "last relay")
    assert worker.stop() == 0
    said = Counter(line.partition("]")[0].rpartition(" ")[2] for line in worker.lines if SAID in line)
    assert said["WARNING/MainProcess"] == 1
    assert set(said.values()) == {1}
    assert not any(admin.stored().values())


@pytest.mark.long
def test_killed_worker(site):
    """What it held returns when it has not beaten for 30 s, and another worker runs it."""
    late = {"task_acks_late": True, "task_reject_on_worker_lost": True}
    victim = site.worker(worker_prefetch_multiplier=4, **late)
    running = site.send("sleep_on", victim.nodename, 120)
    site.record.wait_for_one(running)
    ids = [running] + [site.send("sleep_on", victim.nodename, 120) for _ in range(3)]
    eventually(lambda: site.broker.unacked() == 4)
    site.worker(**late)
    victim.send_signal_to_all(signal.SIGKILL)
    site.record.wait_for(ids, "end", timeout_s=60)
    assert all(count == 1 for count in site.record.counts("end").values())


class TestSessionMode:
    """A session for each connection, which `pooled=false` has to say."""

    @pytest.fixture
    def url(self, admin):
        with pooler(admin.url, "session", size=30) as url:
            yield f"{url}?pooled=false&poll_interval=600&max_poll_interval=600"

    def test_settings_hold(self, url):
        """Ours, as on a direct connection; the next client gets none of them."""
        settings = Statement("settings", "SELECT current_setting('statement_timeout')")
        with Connection(f"{url}&statement_timeout=7") as connection:
            session = connection.default_channel.connection.commands.session
            assert session.run((settings, ()))[0].text(0, 0) == "7s"
        with psycopg.connect(url.partition("?")[0]) as client:
            assert client.execute("SHOW statement_timeout").fetchone() == ("0",)

    def test_without_a_word_it_counts_as_transaction_mode(self, url, log):
        """The settings could stay with somebody else, so none are made; the log names the option."""
        publish(url.partition("?")[0])
        assert "if the pooler keeps a session for each connection, set pooled=false" in log.getvalue()

    def test_worker(self, url, tmp_path, log):
        """It is woken, and when it is killed its messages return after the grace, without poll or beat."""
        site = Site(Broker(url), Record(tmp_path / "record"), {"task_acks_late": True})
        try:
            victim = site.worker()
            running = site.send("sleep_on", victim.nodename, 120)
            site.record.wait_for_one(running)
            ids = [running] + [site.send("sleep_on", victim.nodename, 120) for _ in range(3)]
            site.worker()
            victim.send_signal_to_all(signal.SIGKILL)
            site.record.wait_for(ids, "end", timeout_s=20)  # a beat is missed after 30
            assert not any(SAID in line for line in victim.lines)
        finally:
            site.close()
