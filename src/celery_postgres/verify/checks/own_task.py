"""A task of the user's own application, on the schema of the verification."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from celery_postgres.verify.address import HOSTED
from celery_postgres.verify.checks.database import require_untouched
from celery_postgres.verify.outcome import Fault, Finding

if TYPE_CHECKING:
    from celery_postgres.verify.request import OwnTask
    from celery_postgres.verify.stage import Stage


def own_task(stage: Stage) -> Finding:
    """The task runs once in a worker of its application, whose own broker and results are not touched."""
    task = stage.request.own_task
    assert task is not None
    address = replace(stage.address, application=task.application)
    worker = stage.start_worker("-Q", task.queue, address=address)
    known = stage.wait_ready(worker).facts["tasks"]
    if task.name not in known:
        remedy = (
            "correct the name, or let the application import it: `imports`, `include`, autodiscover_tasks()"
        )
        own = [name for name in known if not name.startswith("celery.")]
        raise Fault(
            f"the worker of -A {task.application} knows no task {task.name}, only {', '.join(own) or 'none'}",
            remedy,
        )
    require_untouched(stage)
    begin = time.monotonic()
    id_ = _call(stage, task, {**os.environ, **address.environment()})
    stage.wait_for(
        lambda: stage.notes.of("succeeded", id_) or stage.notes.of("failed", id_),
        f"{task.name} did not end",
        [worker],
    )
    worker.terminate()
    stage.wait_for(lambda: not worker.alive, "the worker did not end")
    # What the task did to the database is its own affair.
    stage.before = stage.objects()
    runs = len(stage.notes.of("started", id_))
    how_often = f"{runs} runs" if runs > 1 else "1 run"
    if failed := stage.notes.of("failed", id_):
        raise Fault(
            f"{task.name} failed after {how_often}: {failed[0].facts['error']}",
            "read the traceback in the worker's log; the arguments are those of --args and --kwargs",
        )
    done = stage.notes.of("succeeded", id_)[0]
    taken = done.at - stage.notes.of("started", id_)[0].at
    return Finding(
        f"{task.name} succeeded in {taken:.2f} s, {how_often}: {done.facts['result']}",
        {"task_s": taken, "sent_to_end_s": done.at - begin, "runs": runs},
    )


def _call(stage: Stage, task: OwnTask, variables: dict[str, str]) -> str:
    arguments = ["call", task.name, "--args", json.dumps(task.args), "--kwargs", json.dumps(task.kwargs)]
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", HOSTED, *arguments],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=stage.request.timeout_s,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Fault(f"{task.name} could not be sent: {last}", "try it with `celery -A … call`")
    return done.stdout.strip().splitlines()[-1]
