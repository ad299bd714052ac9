"""Steps 2 and 3: connect, set up, send three jobs, run them in priority order, retry, fail, stop."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celery.exceptions import TimeoutError as TookTooLong
from worker_process import WorkerProcess

from celery_postgres import dsn

from . import site
from .app import IntentionalError, app, error_test_job, test_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery.result import AsyncResult


def run(seconds: float) -> int:
    """All of it, within so many seconds; ends earlier when all is done. 0 if everything was as expected."""
    deadline = time.monotonic() + seconds

    def left() -> float:
        return max(0.1, deadline - time.monotonic())

    try:
        _connect()
        sent = _send()
        with started_worker(left()) as worker:
            for result in sent:
                result.get(timeout=left())
            echo(worker, *sent)
            _status()
            errors = _fail(worker, left())
            kept = _shut_down(worker, left())
    except TookTooLong:
        site.give_up(f"it was not done after {seconds:g} s; --seconds gives it longer")
    print("\nEverything was as it should be." if errors and kept else "\nThat was not as it should be.")
    return 0 if errors and kept else 1


def _connect() -> None:
    print(f"Connecting to {dsn.parse(site.url()).masked()}")
    tables = site.set_up()
    with site.database() as connection:
        version = connection.info.parameter_status("server_version")
        print(f"PostgreSQL {version}, as {connection.info.user}")
    print(f"Schema poc, {tables} tables")


def _send() -> list[AsyncResult[Any]]:
    print("\nSending 3 jobs, before any worker runs")
    calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("plain", {"data": {"message": "job 1"}}, {}),
        ("priority 10", {"data": {"message": "job 2"}}, {"priority": 10}),
        (
            "fails once, tried again after 1 s",
            {"data": {"message": "job 3"}, "failures": 1, "retry_delay": 1.0},
            {},
        ),
    ]
    sent = []
    for text, arguments, options in calls:
        sent.append(test_job.apply_async(kwargs=arguments, **options))
        print(f"  sent {sent[-1].id}  {text}")
    return sent


@contextmanager
def started_worker(timeout_s: float, *arguments: str, app: str = "proof_of_concept.app") -> Iterator[Any]:
    """A worker of one process that is ready; told to stop at the end."""
    begin = time.monotonic()
    options = ("--concurrency", "1", "--loglevel", "INFO", "--without-mingle", *arguments)
    with WorkerProcess(app, *options, env={}) as worker:
        print(f"\n$ {' '.join(worker.command)}")
        worker.wait_ready(timeout_s)
        print(f"Worker registered and ready after {time.monotonic() - begin:.1f} s")
        yield worker


def echo(worker: WorkerProcess, *ended: AsyncResult[Any]) -> None:
    """What the tasks said, once. A result may be here sooner than the last line of its task."""
    for result in ended:
        end = "succeeded" if result.successful() else "raised"
        worker.wait_line(f"[{result.id}] {end}", site.PATIENCE_S)
    for line in worker.take("poc."):
        print(f"  {line}")


def _status() -> None:
    with site.database() as connection, app.connection_for_read() as broker:
        pending = broker.default_channel.queue_declare("celery", passive=True).message_count
        completed = site.count(connection, "SELECT count(*) FROM poc.result WHERE state = 'SUCCESS'")
        print(f"\nStatus: {pending} pending, {completed} completed")


def _fail(worker: WorkerProcess, timeout_s: float) -> bool:
    print("\nSending a job that always fails: 2 retries, 1 s apart")
    begin = time.monotonic()
    result = error_test_job.delay()
    try:
        result.get(timeout=timeout_s)
    except IntentionalError as error:
        taken = time.monotonic() - begin
        echo(worker, result)
        last = (result.traceback or "").strip().splitlines()[-1]
        print(f"  {result.state} after {taken:.1f} s: {error!r}; its traceback ends with")
        print(f"  {last}")
        with site.database() as connection:
            runs = connection.execute(
                "SELECT retries + 1 FROM poc.result WHERE task_id = %s", (result.id,)
            ).fetchone()
        print(f"  {runs[0] if runs else 0} runs")
        return runs == (3,) and taken >= 2
    return False


def _shut_down(worker: WorkerProcess, timeout_s: float) -> bool:
    print("\nStopping the worker (SIGTERM) in the middle of a job, with another one waiting")
    running = test_job.delay({"message": "job 4", "seconds": 1})
    waiting = test_job.delay({"message": "job 5"})
    worker.wait_line(f"{running.id}] data", timeout_s)
    code = worker.stop(timeout_s)
    echo(worker)
    with site.database() as connection:
        left = connection.execute("SELECT task_id FROM poc.message").fetchall()
    print(f"  exit code {code}; job 4 is {running.state}; job 5 waits in the database")
    return code == 0 and running.state == "SUCCESS" and left == [(waiting.id,)]
