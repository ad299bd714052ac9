"""`jobs` and `job`: which tasks wait, run or have ended, and everything about one of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from celery_postgres.jobs import STATES, Filter, Jobs

from .filters import meant, read_moment
from .output import as_json, document, moment, printable, record, table, terminal_width
from .target import reporting, target

if TYPE_CHECKING:
    from celery_postgres.jobs import Details, Job

#: From this width on, the queue has room beside the rest.
_WIDE = 110


def _state(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """One of the states; for a slip of the finger the error says which was meant."""
    if value is None or value.lower() in STATES:
        return value and value.lower()
    raise click.BadParameter(
        f"{value!r} is no state: {meant(value, STATES)}The states are {', '.join(STATES)}."
    )


@click.command()
@click.option("--state", callback=_state, help=f"Only in this state: {', '.join(STATES)}.")
@click.option("--queue", help="Only of this queue.")
@click.option("--name", help="Only of this task; * stands for anything.")
@click.option("--since", callback=read_moment, help="Only created since then: a time, or how long ago: 2h.")
@click.option("--before", callback=read_moment, help="Only created before then.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many."
)
@as_json
@click.pass_context
@reporting
def jobs(context: click.Context, as_json: bool, **chosen: Any) -> None:
    """List jobs, the newest first."""
    wanted = Filter(**chosen)
    aim = target(context)
    with aim.session() as session:
        found = Jobs(session, aim.timeout).list(wanted)
    if as_json:
        click.echo(document([record(job) for job in found]))
    elif found:
        click.echo(_table(found))
        if len(found) == wanted.limit:
            # What only its result tells of has no time at which it was created, and no order.
            which = "the newest" if found[-1].created_on is not None else "not all, only"
            click.echo(f"These are {which} {wanted.limit}; --limit shows more.", err=True)
    else:
        narrowed = any(value is not None for key, value in chosen.items() if key != "limit")
        click.echo(
            "No job is like that." if narrowed else "No job is known: nothing waits, nothing is recorded."
        )


def _table(found: list[Job]) -> str:
    width = terminal_width()
    if width is not None and width < _WIDE:
        narrow = [(job.id, job.state, (moment(job.created_on) or "-")[-15:], job.name) for job in found]
        return table(("ID", "STATE", "CREATED", "NAME"), narrow, width)
    rows = [(job.id, job.state, moment(job.created_on), job.queue, job.name) for job in found]
    return table(("ID", "STATE", "CREATED", "QUEUE", "NAME"), rows, width)


@click.command()
@click.argument("id_", metavar="ID")
@as_json
@click.pass_context
@reporting
def job(context: click.Context, id_: str, as_json: bool) -> None:
    """Tell everything that is known of one job; exit code 1 if nothing is."""
    aim = target(context)
    with aim.session() as session:
        found = Jobs(session, aim.timeout).find(id_)
    if as_json:
        click.echo(document({**record(found[0]), **record(found[1])} if found else None))
    elif found:
        click.echo(_told(*found))
    if found is None:
        click.echo(
            f"No job {printable(id_)} is known: it has ended and nothing of it was kept, it runs and was "
            "acknowledged when it began, or its result is kept elsewhere.",
            err=True,
        )
        sys.exit(1)


def _told(job: Job, details: Details) -> str:
    held = None
    if details.held_by_host is not None:
        held = f"{details.held_by_host}, process {details.held_by_pid}, since {moment(details.claimed_on)}"
    known = [
        ("id", job.id),
        ("name", job.name),
        ("state", job.state),
        ("queue", job.queue),
        ("args", details.args),
        ("kwargs", details.kwargs),
        ("created", moment(job.created_on)),
        ("eta", details.eta),
        ("due", moment(details.due_on)),
        ("expires", details.expires),
        ("started", moment(job.started_on)),
        ("completed", moment(job.completed_on)),
        ("held by", held),
        ("worker", job.worker if held is None else None),
        ("priority", job.priority),
        ("deliveries", job.deliveries),
        ("retries", job.retries),
        ("dead", details.dead_reason),
        ("tracked", {True: "yes", False: "no", None: "not known"}[job.tracked]),
        ("recorded", details.result_state and f"{details.result_state} at {moment(details.recorded_on)}"),
        ("kept until", moment(details.recorded_until)),
        ("exchange", details.exchange or None),
        ("routing key", details.routing_key),
        ("root", details.root_id),
        ("parent", details.parent_id),
        ("group", details.group_id),
        ("result", None if details.error or details.result is None else document(details.result)),
        ("error", details.error),
        ("traceback", details.traceback and "\n" + details.traceback.rstrip()),
    ]
    return "\n".join(f"{label:<12}{printable(str(value))}" for label, value in known if value is not None)
