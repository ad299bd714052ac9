"""The Celery application of the proof of concept: two tasks to look at, and two that do the real work.

The real work is the application's own, called as it is: `evaluation.orchestrator` knows nothing of Celery.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from typing import Any

from celery import Celery, Task
from celery.utils.log import get_task_logger
from evaluation.database import engine_for, sessions_for, transaction
from evaluation.errors import TransientError
from evaluation.intake import import_file
from evaluation.orchestrator import Orchestrator
from evaluation.registry import default_registry

SCHEMA = "poc"

log = get_task_logger(__name__)

app = Celery("poc")
app.conf.update(
    broker_url=os.environ.get("DATABASE_URL"),
    broker_transport_options={"schema": SCHEMA},
    broker_connection_retry_on_startup=False,
    result_backend=os.environ.get("DATABASE_URL"),
    result_backend_transport_options={"schema": SCHEMA},
    task_track_started=True,
    # Of what is prefetched nothing can be overtaken by a job of a higher priority.
    worker_prefetch_multiplier=1,
    worker_task_log_format="%(task_name)s[%(task_id)s] %(message)s",
)

#: The policy belongs to the task; a call may bring its own as arguments.
MAX_RETRIES, RETRY_DELAY_S = 3, 5.0


class IntentionalError(Exception):
    """What a job fails with that was told to."""


@app.task(bind=True, name="poc.test_job", max_retries=MAX_RETRIES, default_retry_delay=RETRY_DELAY_S)
def test_job(self: Task, data: dict[str, Any], **policy: Any) -> dict[str, Any]:
    """Say what came, take a moment, give it back; fail `failures` times before."""
    log.info("received, priority %s", self.request.delivery_info.get("priority"))
    log.info("data %s", data)
    if self.request.retries < policy.get("failures", 0):
        raise self.retry(exc=IntentionalError("not yet"), countdown=policy.get("retry_delay"))
    time.sleep(data.get("seconds", 0.2))
    log.info("completed")
    return {"processed": True, "timestamp": datetime.now(timezone.utc).isoformat()}


@app.task(bind=True, name="poc.error_test_job", max_retries=2)
def error_test_job(self: Task, retry_delay: float = 1.0) -> None:
    """Fail, always: `max_retries` + 1 runs, and then FAILURE."""
    try:
        raise IntentionalError("intentional error, to see it retried")
    except IntentionalError as error:
        log.info("run %d fails", self.request.retries + 1)
        raise self.retry(exc=error, countdown=retry_delay) from error


def orchestrator(worker: str) -> Orchestrator:
    return Orchestrator(sessions_for(engine_for()), default_registry(), worker=worker)


class EvaluationTask(Task):
    """Writes FAILED into the application's table when Celery gives the task up."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, _kwargs: Any, _einfo: Any) -> None:
        orchestrator("poc").fail_evaluation(args[0], exc, task_id=task_id)


@app.task(
    bind=True,
    base=EvaluationTask,
    name="poc.evaluate",
    max_retries=2,
    acks_late=True,
    reject_on_worker_lost=True,
)
def evaluate(self: Task, evaluation_id: int, retry_delay: float = 1.0) -> dict[str, Any]:
    """Evaluate a document of the application. Of its errors only the transient ones are tried again."""
    log.info("processing evaluation %d", evaluation_id)
    try:
        result = orchestrator(self.request.hostname).process_evaluation(
            evaluation_id, task_id=self.request.id
        )
    except TransientError as error:
        log.info("transient, tried again: %s", error)
        raise self.retry(exc=error, countdown=retry_delay) from error
    log.info("completed evaluation %d", evaluation_id)
    return {"success": True, "evaluation_id": evaluation_id, "version": result.version}


@app.task(name="poc.import_document", acks_late=True, reject_on_worker_lost=True)
def import_document(path: str) -> dict[str, Any]:
    """Store a file of the worker's machine, unless that very text is there already."""
    with transaction(sessions_for(engine_for())) as session:
        imported = import_file(session, path)
    return {"document_id": imported.document_id, "version": imported.version, "created": imported.created}
