"""The application that a worker of a comparison runs, for `celery -A`: the probe, or the user's own.

Whichever it is, it works on the contender's broker and on one queue there, and its tasks are noted down.
"""

from __future__ import annotations

from typing import Any

from celery import signals

from celery_postgres.verify import notes as journal
from celery_postgres.verify.owner import end_with_the_owner

from .address import Address
from .notes import Event, Pen
from .probe import application
from .transfer import transferred

__all__ = ["app"]

_address = Address.from_environment()
_pen = Pen(_address.notes, _address.worker)


def _told_by_the_task(task_id: str) -> None:
    if not _address.ends:
        _pen.write(Event.STARTED, task_id)


app = (
    application(_address.settings, _told_by_the_task)
    if _address.application is None
    else transferred(_address.application, _address.settings)
)
end_with_the_owner()


def _tell(event: str, task_id: str | None, worker: Any, **facts: Any) -> None:
    journal.write(_address.journal, event, task_id, str(worker), **facts)


@signals.worker_ready.connect(weak=False)
def _ready(sender: Any, **_: Any) -> None:
    # Of an `rpc://` backend, which the worker opens to tell of a task that was revoked.
    _tell("ready", None, sender.hostname, tasks=sorted(app.tasks), reply_queue=app.thread_oid)


@signals.task_failure.connect(weak=False)
def _failed(sender: Any, task_id: str, exception: BaseException, einfo: Any, **_: Any) -> None:
    said = f"{type(exception).__name__}: {exception}"
    _tell("failed", task_id, sender.request.hostname, name=sender.name, error=said, traceback=str(einfo))
    if _address.ends:
        _pen.write(Event.FAILED, task_id)


@signals.task_unknown.connect(weak=False)
def _unknown(sender: Any, name: str, id: str, **_: Any) -> None:  # noqa: A002 - the signal names it
    _tell("unknown", id, sender.hostname, name=name)


# A signal costs Celery some microseconds for each task, so only what is needed is connected.
if _address.ends or _address.application is not None:

    @signals.task_prerun.connect(weak=False)
    def _started(task_id: str, task: Any, **_: Any) -> None:
        _pen.write(Event.STARTED, task_id, bool((task.request.delivery_info or {}).get("redelivered")))


if _address.ends:

    @signals.task_success.connect(weak=False)
    def _succeeded(sender: Any, **_: Any) -> None:
        _pen.write(Event.SUCCEEDED, sender.request.id)

    @signals.task_retry.connect(weak=False)
    def _retried(request: Any, **_: Any) -> None:
        _pen.write(Event.RETRIED, request.id)
