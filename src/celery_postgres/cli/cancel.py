"""`cancel`: a job that waits is taken away for good."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from celery_postgres.cancellation import REASON, Cancellation, Outcome, Recorded, record_revoked
from celery_postgres.errors import ConfigurationError, Error
from celery_postgres.jobs import Jobs

from .output import as_json, document, printable, record
from .target import application, reporting, target

if TYPE_CHECKING:
    from celery_postgres.cancellation import Recorder
    from celery_postgres.messages import Claimed

_REMEDIES = {
    None: "unknown: it has ended and nothing of it was kept, or it runs and was acknowledged when it began",
    "active": "a worker has it: `celery -A app control revoke {id}` stops it if it has not begun, `celery -A "
    "app control terminate KILL {id}` also if it has",
    "dead": "it is dead and does not run by itself: `celery-postgres dead discard {id}` forgets it",
}


@click.command()
@click.argument("ids", metavar="ID…", nargs=-1, required=True)
@as_json
@click.pass_context
@reporting
def cancel(context: click.Context, ids: tuple[str, ...], as_json: bool) -> None:
    """Remove jobs that wait or are held for later, so that they never run; their state becomes REVOKED.

    Exit code 1 unless all of them are cancelled. A job that a worker has is left to it.
    """
    aim, app = target(context), application(context)
    recorder: Recorder = record_revoked if app is None else _Application(app)
    outcomes: list[Outcome] = []
    try:
        with aim.session() as session:
            cancellation = Cancellation(session, Jobs(session, aim.timeout), aim.timeout, recorder)
            outcomes.extend(_one(cancellation, id_, quiet=as_json) for id_ in dict.fromkeys(ids))
    finally:  # what was cancelled before an error is cancelled
        if as_json:
            click.echo(document([record(outcome) for outcome in outcomes]))
    if not all(outcome.cancelled for outcome in outcomes):
        sys.exit(1)


def _one(cancellation: Cancellation, id_: str, *, quiet: bool) -> Outcome:
    """Printed at once: what follows may fail, and this is done."""
    outcome = cancellation.cancel(id_)
    if not quiet or not outcome.cancelled:
        click.echo(f"{printable(id_)}  {_told(outcome)}", err=not outcome.cancelled)
    return outcome


def _told(outcome: Outcome) -> str:
    if not outcome.cancelled:
        default = f"not cancelled: it is {outcome.state} already"
        remedy = _REMEDIES.get(outcome.state)
        return default if remedy is None else "not cancelled: " + remedy.format(id=outcome.id)
    said = "cancelled" if outcome.recorded else "cancelled; its result is not kept, so nobody is told"
    if outcome.untold_chord:
        said += (
            "; it was part of a chord, which will not complete: `celery -A APP postgres cancel` would have "
            "told its body"
        )
    elif outcome.untold_chord is None:
        said += "; it was in a group, which may be a chord: then that will not complete"
    return said


class _Application:
    """Records through the application's own result backend, whichever that is, as a worker does that finds a
    task revoked: so a chord hears that a part of it is missing, and its errbacks run.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, task_id: str, message: Claimed) -> Recorded:
        from celery.app.task import Context
        from celery.backends.base import DisabledBackend
        from kombu.serialization import prepare_accept_content

        from celery_postgres.delivery import Message

        app = self._app
        delivered = Message(None, 0, message, None)
        delivered.accept = prepare_accept_content(app.conf.accept_content)
        try:
            args, kwargs, embedded = delivered.decode()
        except Exception as exc:
            raise ConfigurationError(
                f"{task_id} is not cancelled: its message cannot be read: {exc}: add its content type "
                "to accept_content, or use `celery-postgres cancel`"
            ) from exc
        request = Context(
            {
                **delivered.headers,
                **delivered.properties,
                **embedded,
                "args": args,
                "kwargs": kwargs,
                "properties": delivered.properties,
                "delivery_info": delivered.delivery_info,
                "hostname": None,
            }
        )
        ignored = _ignores_result(app, delivered.headers)
        disabled = isinstance(app.backend, DisabledBackend)
        try:
            app.backend.mark_as_revoked(task_id, REASON, request=request, store_result=not ignored)
        except Error:
            raise
        except Exception as exc:
            raise ConfigurationError(
                f"{task_id} is not cancelled: the result backend could not record it: {exc}: correct "
                "result_backend, or use `celery-postgres cancel`"
            ) from exc
        chord = bool(request.chord)
        return Recorded(None, recorded=not ignored and not disabled, untold_chord=chord and disabled)


def _ignores_result(app: Any, headers: dict[str, Any]) -> bool:
    """As a worker decides it: what was asked for with the message, else what the task says."""
    task = app.tasks.get(headers.get("task"))
    ignored = headers.get("ignore_result")
    if ignored is None:
        ignored = app.conf.task_ignore_result if task is None else task.ignore_result
    kept_if_failed = getattr(task, "store_errors_even_if_ignored", app.conf.task_store_errors_even_if_ignored)
    return bool(ignored) and not kept_if_failed
