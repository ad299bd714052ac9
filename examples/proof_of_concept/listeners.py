"""Says in the worker's log what goes wrong: `celery worker --include proof_of_concept.listeners`."""

from __future__ import annotations

from typing import Any

from celery import signals
from celery.utils.log import get_logger

log = get_logger(__name__)


@signals.task_retry.connect
def _retried(request: Any, reason: Any, **_: Any) -> None:
    log.warning("%s[%s] is tried again: %s", request.task, request.id, reason)


@signals.task_failure.connect
def _failed(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    log.error("%s[%s] failed for good: %r", sender.name, task_id, exception)


@signals.task_internal_error.connect
def _broken(task_id: str, exception: BaseException, **_: Any) -> None:
    log.critical("Celery itself failed at %s: %r", task_id, exception)


@signals.task_unknown.connect
def _unknown(name: str, **_: Any) -> None:
    log.error("no task %s is registered here: look at `celery inspect registered`", name)
