"""`queues`: what waits where, and for how long."""

from __future__ import annotations

import click

from celery_postgres.jobs import Jobs

from .output import as_json, document, duration, record, table, terminal_width
from .target import reporting, target

_HEADINGS = ("READY", "DELAYED", "UNACKED", "DEAD", "OLDEST", "CONSUMERS", "QUEUE")


@click.command()
@as_json
@click.pass_context
@reporting
def queues(context: click.Context, as_json: bool) -> None:
    """List the queues: how much waits, is held for later, is with workers, is dead; who consumes."""
    aim = target(context)
    with aim.session() as session:
        found = Jobs(session, aim.timeout).queues()
    if as_json:
        click.echo(document([record(queue) for queue in found]))
        return
    if not found:
        click.echo("No queue has been declared: the first worker or publisher does that.")
        return
    rows = [
        (q.ready, q.delayed, q.unacked, q.dead, duration(q.oldest_s), q.consumers, q.queue) for q in found
    ]
    click.echo(table(_HEADINGS, rows, terminal_width()))
