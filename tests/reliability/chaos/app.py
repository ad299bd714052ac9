"""The application that runs under faults: tasks that write down each of their executions.

Everything comes from the environment: CHAOS_URL, broker and result backend; CHAOS_EXECUTIONS, the
journal; CHAOS_SETTINGS, Celery settings as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task

from .journal import BEGIN, END, Journal

QUEUE = "work"

SETTINGS: dict[str, Any] = {
    "task_default_queue": QUEUE,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_ignore_result": True,
    "worker_prefetch_multiplier": 4,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "result_expires": 86_400,
    "task_queue_max_priority": None,
}


def make_app(url: str, settings: dict[str, Any]) -> Celery:
    made = Celery("chaos", broker=url, backend=url, set_as_current=False)
    made.conf.update({**SETTINGS, **settings})
    return made


app = make_app(os.environ.get("CHAOS_URL", "memory://"), json.loads(os.environ.get("CHAOS_SETTINGS", "{}")))
journal = Journal(Path(os.environ.get("CHAOS_EXECUTIONS", os.devnull)))


def _note(task: Task, event: str) -> None:
    request = task.request
    redelivered = bool((request.delivery_info or {}).get("redelivered"))
    journal.write(event, request.id, request.retries, int(redelivered), request.hostname, os.getpid())


@app.task(bind=True, name="work")
def work(self: Task, seconds: float) -> None:
    _note(self, BEGIN)
    time.sleep(seconds)
    _note(self, END)


@app.task(bind=True, name="answer", ignore_result=False)
def answer(self: Task, value: int, seconds: float) -> int:
    """With a result; also the part of a chord."""
    _note(self, BEGIN)
    time.sleep(seconds)
    _note(self, END)
    return value


@app.task(bind=True, name="total", ignore_result=False)
def total(self: Task, values: list[int]) -> int:
    """The body of a chord."""
    _note(self, BEGIN)
    _note(self, END)
    return sum(values)


@app.task(bind=True, name="again", max_retries=1)
def again(self: Task, seconds: float) -> None:
    """Is retried once: a second message of the same id."""
    _note(self, BEGIN)
    time.sleep(seconds)
    if not self.request.retries:
        _note(self, END)
        raise self.retry(countdown=seconds)
    _note(self, END)


@app.task(bind=True, name="poison")
def poison(self: Task) -> None:
    """Kills the process of the pool in which it runs, each time."""
    _note(self, BEGIN)
    os.kill(os.getpid(), signal.SIGKILL)
