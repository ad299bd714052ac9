"""For a prefork worker of the probe: it ends while its pool has not said yet that a task began, which has.

SIGTERM comes at any moment, that one included; here the moment is certain.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery.exceptions import WorkerShutdown
from celery.signals import task_received, worker_ready
from kombu.asynchronous import get_event_loop

_consumers: list[Any] = []


@worker_ready.connect
def keep_consumer(sender: Any, **_: Any) -> None:
    _consumers.append(sender)


@task_received.connect
def end_with_it(request: Any, **_: Any) -> None:
    get_event_loop().call_soon(_end, request)


def _end(request: Any) -> None:
    """Runs before the loop looks whether a child has written something."""
    if _consumers[0].pool._pool.outbound_buffer:  # not handed over yet
        get_event_loop().call_soon(_end, request)
        return
    while not _is_recorded(request.id):
        time.sleep(0.01)
    raise WorkerShutdown(0)


def _is_recorded(task_id: str) -> bool:
    record = Path(os.environ["PROBE_RECORD"])
    return record.exists() and task_id in record.read_text()
