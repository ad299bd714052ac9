"""`doctor`: what is wrong with a database that is in use, and what to do."""

from __future__ import annotations

import sys

import click

from celery_postgres.errors import Error
from celery_postgres.purposes import PURPOSES

from .output import as_json, printable
from .target import reporting, target


@click.command()
@as_json
@click.option(
    "--longer-than",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds for which a transaction may be open, or a message wait for a consumer.",
)
@click.option(
    "--needs",
    type=click.Choice(list(PURPOSES)),
    multiple=True,
    help="What the role of the URL is meant for; may be repeated.",
)
@click.pass_context
@reporting
def doctor(context: click.Context, as_json: bool, longer_than: float, needs: tuple[str, ...]) -> None:
    """Look at the database, the server and the workers, and explain what is wrong; change nothing.

    Exit code 0 if all is well, 1 for warnings, 2 for problems.
    """
    from celery_postgres.doctor import SEVERITIES, examine, nowhere, report, worst
    from celery_postgres.doctor.patient import Patient

    try:
        aim = target(context)
    except Error as exc:  # a problem like any other, for whoever goes by the exit code
        found = nowhere(exc)
    else:
        found = examine(Patient(aim.dsn, aim.options, patience_s=longer_than, needs=needs))
    click.echo(report.as_json(found) if as_json else printable(report.as_text(found)))
    sys.exit(SEVERITIES.index(worst(found.findings)))
