"""The application that a verification's worker runs, for `celery -A`: the probe, or the user's own.

Whichever it is, it works on the verification's schema, and each of its tasks is noted down.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, signals
from celery.app.utils import find_app

from . import notes
from .address import Address
from .owner import end_with_the_owner
from .probe import application

__all__ = ["app"]

_address = Address.from_environment()


def _hosted() -> Celery:
    if _address.application is None:
        return application(_address)
    app = find_app(_address.application)
    app.conf.broker_transport_options = _address.options
    app.conf.result_backend_transport_options = _address.options
    app.conf.task_always_eager = False
    return app


app = _hosted()
end_with_the_owner()


def _note(event: str, task_id: str | None, worker: Any, **facts: Any) -> None:
    notes.write(_address.notes, event, task_id, str(worker), **facts)


@signals.worker_ready.connect(weak=False)
def _ready(sender: Any, **_: Any) -> None:
    _note("ready", None, sender.hostname, tasks=sorted(app.tasks))


@signals.task_prerun.connect(weak=False)
def _started(task_id: str, task: Any, **_: Any) -> None:
    redelivered = bool((task.request.delivery_info or {}).get("redelivered"))
    _note("started", task_id, task.request.hostname, name=task.name, redelivered=redelivered)


@signals.task_success.connect(weak=False)
def _succeeded(sender: Any, result: Any, **_: Any) -> None:
    _note("succeeded", sender.request.id, sender.request.hostname, result=repr(result)[:500])


@signals.task_failure.connect(weak=False)
def _failed(sender: Any, task_id: str, exception: BaseException, einfo: Any, **_: Any) -> None:
    said = f"{type(exception).__name__}: {exception}"
    _note("failed", task_id, sender.request.hostname, error=said, traceback=str(einfo))


@signals.task_retry.connect(weak=False)
def _retried(request: Any, reason: Any, **_: Any) -> None:
    _note("retried", request.id, request.hostname, reason=str(reason))


@signals.task_unknown.connect(weak=False)
def _unknown(sender: Any, name: str, id: str, **_: Any) -> None:  # noqa: A002 - the signal names it
    _note("unknown", id, sender.hostname, name=name)
