"""A redelivered task whose success is stored need not run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from celery import Celery

    from .conftest import SumsWorker


def test_redelivered_task_whose_success_is_stored_does_not_run(
    app: Celery, start_worker: Callable[..., SumsWorker], database_url: str, tmp_path: Path
) -> None:
    """As if the worker had died between the result and the acknowledgement."""
    path = tmp_path / "runs"
    name = "tests.results.sums.append_line"
    first = app.send_task(name, (str(path), "first"))
    second = app.send_task(name, (str(path), "second"))
    app.backend.store_result(first.id, "stored before", "SUCCESS")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE celery.ready SET deliveries = 1")  # both were delivered before
    worker = start_worker(database_url, worker_deduplicate_successful_tasks=True, task_acks_late=True)
    assert second.get(timeout=30) == "second"
    worker.wait_for_line("Task already completed successfully")
    assert path.read_text() == "second\n"
    with psycopg.connect(database_url, autocommit=True) as connection:
        eventually(lambda: connection.execute("SELECT FROM celery.message").rowcount == 0)
