"""The work as Celery tasks. A message carries an id or a path; everything else is in the database.

Messages may come twice: both tasks then find what they did the first time. So they are acknowledged
late, and a message whose worker was killed goes to another one.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.log import get_task_logger

from .app import app
from .database import engine_for, sessions_for, transaction
from .errors import TransientError
from .intake import import_file
from .orchestrator import Orchestrator, utc_now
from .registry import default_registry

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

log = get_task_logger(__name__)

# Above the time limit of every evaluator, which ends an evaluation between two plugins.
# These end one in the middle of a plugin: first by an exception, then by the end of the process.
SOFT_TIME_LIMIT_S = 270
TIME_LIMIT_S = 300

# However long a server wants us to stay away.
LONGEST_WAIT_S = 900

POLICY: dict[str, Any] = {
    "acks_late": True,
    "reject_on_worker_lost": True,
    "autoretry_for": (TransientError,),
    "max_retries": 3,
    "retry_backoff": 5,
    "retry_backoff_max": 300,
    "retry_jitter": True,
    "soft_time_limit": SOFT_TIME_LIMIT_S,
    "time_limit": TIME_LIMIT_S,
}


@lru_cache(maxsize=1)
def sessions() -> sessionmaker[Session]:
    """Sessions on the database of the application. They keep no connection, so a fork may copy them."""
    return sessions_for(engine_for())


def orchestrator(hostname: str | None) -> Orchestrator:
    return Orchestrator(
        sessions(),
        default_registry(),
        worker=f"{hostname or 'nobody'}/{os.getpid()}",
        interruptions=(SoftTimeLimitExceeded,),
    )


class EvaluationTask(Task):
    """Writes FAILED when Celery gives the task up: after the last retry, or at once where none would help."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, _einfo: Any) -> None:
        evaluation_id = args[0] if args else kwargs.get("evaluation_id")
        # With anything else no evaluation was ever begun.
        if isinstance(evaluation_id, int):
            orchestrator(self.request.hostname).fail_evaluation(evaluation_id, exc, task_id=task_id)


@app.task(bind=True, base=EvaluationTask, name="evaluation.evaluate", **POLICY)
def evaluate(self: EvaluationTask, evaluation_id: int) -> dict[str, Any]:
    """Evaluate a document; `version` is None if the evaluation was cancelled."""
    try:
        result = orchestrator(self.request.hostname).process_evaluation(
            evaluation_id,
            # The time limits of Celery hold in a pool of processes only, this one everywhere.
            deadline=utc_now() + timedelta(seconds=SOFT_TIME_LIMIT_S),
            heartbeat=lambda plugin: log.debug("evaluation %s: %s", evaluation_id, plugin),
            task_id=self.request.id,
        )
    except TransientError as error:
        if error.retry_after_s is None:
            raise
        raise self.retry(exc=error, countdown=min(error.retry_after_s, LONGEST_WAIT_S)) from error
    return {
        "evaluation_id": result.evaluation_id,
        "version": result.version,
        "grade": result.grade,
        "comments": result.comments,
    }


@app.task(name="evaluation.import_document", **POLICY)
def import_document(path: str) -> dict[str, Any]:
    """Store a file of the worker's machine as the newest version of its document, if it is not that yet."""
    with transaction(sessions()) as session:
        imported = import_file(session, path)
    return {
        "document_id": imported.document_id,
        "version": imported.version,
        "created": imported.created,
    }
