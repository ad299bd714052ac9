"""A worker whose result the database does not take: it tries again, and is never silent."""

from __future__ import annotations

import pytest
from celery.result import AsyncResult

from celery_postgres import dsn, schema
from celery_postgres.errors import DatabaseUnavailable
from tests.reliability.refusals.faults import Fault

POLICY = {"max_retries": 3, "interval_start": 0, "interval_step": 0, "interval_max": 0.05}


@pytest.fixture
def fault(database_url: str) -> Fault:
    schema.upgrade(dsn.parse(database_url), "celery")
    return Fault(database_url, "result")


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_result_survives_what_passes(app, database_url, start_worker, fault, pool) -> None:
    """A full disk and lost sessions while the task ends: the result arrives all the same."""
    start_worker(database_url, "-P", pool, "-c", "1")
    for code in ("53100", "57P01"):
        fault.raise_(code, times=2)
        sent = app.send_task("tests.results.sums.add", (1, 2))
        assert AsyncResult(sent.id, app=app).get(timeout=20) == 3
        assert fault.attempts >= 3


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_result_that_cannot_be_stored_is_not_lost_in_silence(
    app, database_url, start_worker, fault, pool
) -> None:
    """After the attempts of the policy the log names the task and the reason, and the worker goes on."""
    worker = start_worker(
        database_url, "-P", pool, "-c", "1", result_backend_transport_options={"retry_policy": POLICY}
    )
    fault.raise_("57P01")
    sent = app.send_task("tests.results.sums.add", (1, 2))
    worker.wait_for_line(rf"ERROR.*the state SUCCESS of task {sent.id} .*stored: raised by the test")
    assert fault.attempts >= 4
    fault.clear()
    assert AsyncResult(app.send_task("tests.results.sums.add", (3, 4)).id, app=app).get(timeout=20) == 7


def test_who_waits_is_told_as_soon_as_anything_can_be_stored(app, database_url, start_worker, fault) -> None:
    """Celery then stores a failure in the place of the result: nobody waits for ever."""
    start_worker(database_url, "-P", "solo", result_backend_transport_options={"retry_policy": POLICY})
    fault.raise_("57P01", times=6)
    sent = app.send_task("tests.results.sums.give_late", (5,))
    with pytest.raises(DatabaseUnavailable):
        AsyncResult(sent.id, app=app).get(timeout=30)


def test_always_retry_outlasts_the_policy(app, database_url, start_worker, fault) -> None:
    """`result_backend_always_retry` begins again where the policy ends."""
    start_worker(
        database_url,
        *("-P", "prefork", "-c", "1"),
        result_backend_transport_options={"retry_policy": POLICY},
        result_backend_always_retry=True,
        result_backend_base_sleep_between_retries_ms=1,
    )
    fault.raise_("57P01", times=10)
    sent = app.send_task("tests.results.sums.add", (1, 2))
    assert AsyncResult(sent.id, app=app).get(timeout=20) == 3
    assert fault.attempts >= 11
