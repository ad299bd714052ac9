"""The application under test: tasks that write down what happened to them.

Everything comes from the environment, because workers are processes of their own:
PROBE_BROKER_URL; PROBE_RECORD, the file to which tasks append; PROBE_SETTINGS, Celery settings as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import Reject
from kombu import Exchange, Queue
from kombu.common import Broadcast

HIGHEST_PRIORITY = 10

SETTINGS: dict[str, Any] = {
    "task_queues": [
        Queue("celery", Exchange("celery"), routing_key="celery"),
        Queue("left", Exchange("sides", type="topic"), routing_key="side.left"),
        Queue("right", Exchange("sides", type="topic"), routing_key="side.right"),
        Queue("urgency", Exchange("urgency"), routing_key="urgency", max_priority=HIGHEST_PRIORITY),
        Broadcast("everybody"),
    ],
    "task_default_queue": "celery",
    "task_default_exchange": "celery",
    "task_default_routing_key": "celery",
    "task_routes": {
        "probe.left": {"exchange": "sides", "routing_key": "side.left"},
        "probe.right": {"exchange": "sides", "routing_key": "side.right"},
    },
    "task_ignore_result": True,
    "task_send_sent_event": True,
    "worker_send_task_events": True,
    "broker_connection_retry_on_startup": True,
}


def settings(environment: dict[str, str]) -> dict[str, Any]:
    """The configuration of a worker and of whoever publishes to it."""
    given = json.loads(environment.get("PROBE_SETTINGS", "{}"))
    return {"broker_url": environment["PROBE_BROKER_URL"], **SETTINGS, **given}


app = Celery("probe")
if "PROBE_BROKER_URL" in os.environ:
    app.conf.update(settings(dict(os.environ)))


def note(task: Any, event: str, extra: Any = None) -> None:
    """Append one line. A single write in append mode is not torn by other processes."""
    request = task.request
    delivery = request.delivery_info or {}
    line = json.dumps(
        {
            "event": event,
            "task": task.name,
            "id": request.id,
            "args": list(request.args or []),
            "retries": request.retries,
            "redelivered": bool(delivery.get("redelivered")),
            "priority": delivery.get("priority"),
            "monotonic": time.monotonic(),
            "pid": os.getpid(),
            "hostname": request.hostname,
            "note": extra,
        }
    )
    record = os.open(os.environ["PROBE_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(record, line.encode() + b"\n")
    finally:
        os.close(record)


@app.task(bind=True, name="probe.record")
def record(self: Any, *_: Any) -> None:
    note(self, "begin")


@app.task(bind=True, name="probe.left")
def left(self: Any) -> None:
    note(self, "begin", self.request.delivery_info["routing_key"])


@app.task(bind=True, name="probe.right")
def right(self: Any) -> None:
    note(self, "begin", self.request.delivery_info["routing_key"])


@app.task(bind=True, name="probe.add")
def add(self: Any, x: int, y: int) -> int:
    note(self, "begin", x + y)
    return x + y


@app.task(bind=True, name="probe.sleep_for")
def sleep_for(self: Any, seconds: float) -> None:
    note(self, "begin")
    time.sleep(seconds)
    note(self, "end")


@app.task(bind=True, name="probe.hold")
def hold(self: Any, path: str) -> None:
    """Run until there is such a file."""
    note(self, "begin")
    while not Path(path).exists():
        time.sleep(0.02)
    note(self, "end")


@app.task(bind=True, name="probe.sleep_at_first")
def sleep_at_first(self: Any, seconds: float) -> None:
    """Sleep on the first delivery and return at once on any other."""
    note(self, "begin")
    if not self.request.delivery_info["redelivered"]:
        time.sleep(seconds)
    note(self, "end")


@app.task(bind=True, name="probe.sleep_on")
def sleep_on(self: Any, nodename: str, seconds: float) -> None:
    """Sleep on one worker and return at once on any other."""
    note(self, "begin")
    if self.request.hostname == nodename:
        time.sleep(seconds)
    note(self, "end")


@app.task(bind=True, name="probe.fail")
def fail(self: Any) -> None:
    note(self, "begin")
    raise RuntimeError("as asked")


@app.task(bind=True, name="probe.fail_at_first", acks_late=True, acks_on_failure_or_timeout=False)
def fail_at_first(self: Any, path: str) -> None:
    """Fail and be rejected on the first delivery; on any other, run until there is such a file."""
    note(self, "begin")
    if not self.request.delivery_info["redelivered"]:
        raise RuntimeError("as asked")
    while not Path(path).exists():
        time.sleep(0.02)
    note(self, "end")


@app.task(bind=True, name="probe.retry_twice", max_retries=2)
def retry_twice(self: Any, countdown: float) -> None:
    note(self, "begin")
    if self.request.retries < 2:
        raise self.retry(countdown=countdown)
    note(self, "end")


@app.task(bind=True, name="probe.retry_and_sleep", max_retries=1)
def retry_and_sleep(self: Any, countdown: float, seconds: float) -> None:
    """Sleep in the second attempt."""
    note(self, "begin")
    if self.request.retries < 1:
        raise self.retry(countdown=countdown)
    time.sleep(seconds)


@app.task(bind=True, name="probe.progress")
def progress(self: Any, seconds: float) -> None:
    """Tell of a state of the application's own, and sleep."""
    self.update_state(state="PROGRESS", meta={"done": 1})
    note(self, "begin")
    time.sleep(seconds)


@app.task(bind=True, name="probe.relay")
def relay(self: Any, hops: int) -> None:
    """Publish from inside the pool: this task again, until no hop is left."""
    child = relay.delay(hops - 1) if hops else None
    note(self, "begin", child.id if child else None)


@app.task(bind=True, name="probe.echo")
def echo(self: Any, payload: Any) -> None:
    """Write down a digest of what arrived."""
    note(self, "begin", digest(payload))


def digest(payload: Any) -> str:
    """A name for a JSON value."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


@app.task(bind=True, name="probe.reject_once", acks_late=True)
def reject_once(self: Any) -> None:
    """Go back to the queue on the first delivery."""
    note(self, "begin")
    if not self.request.delivery_info["redelivered"]:
        raise Reject("once more", requeue=True)
    note(self, "end")


@app.task(bind=True, name="probe.reject", acks_late=True)
def reject(self: Any) -> None:
    note(self, "begin")
    raise Reject("never", requeue=False)


@app.task(bind=True, name="probe.kill_process_once", acks_late=True, reject_on_worker_lost=True)
def kill_process_once(self: Any) -> None:
    """Kill the process of the pool in which this runs, on the first delivery."""
    note(self, "begin")
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)
    note(self, "end")


@app.task(bind=True, name="probe.poison", acks_late=True, reject_on_worker_lost=True)
def poison(self: Any, cure: str) -> None:
    """Kill the process in which this runs, as long as there is no file of that name."""
    note(self, "begin")
    if not Path(cure).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    note(self, "end")
