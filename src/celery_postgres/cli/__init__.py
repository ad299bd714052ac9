"""The commands: `celery -A app postgres …`, and `celery-postgres …` without an application."""

from __future__ import annotations

import click

from celery_postgres import __version__

from .cancel import cancel
from .compare import compare
from .dead import dead
from .doctor import doctor
from .grants import grants
from .jobs import job, jobs
from .queues import queues
from .setup import check, migrate, serve
from .verify import verify

__all__ = ["main", "postgres"]


@click.group(name="celery-postgres")
@click.version_option(__version__)
@click.option("--url", envvar="DATABASE_URL", help="The database; DATABASE_URL by default.")
@click.option("--schema", "schema_name", default=None, help="The schema; celery by default.")
@click.pass_context
def main(context: click.Context, url: str | None, schema_name: str | None) -> None:
    """Celery over PostgreSQL, without an application."""
    context.obj = (url, {} if schema_name is None else {"schema": schema_name})


@click.group(name="postgres")
def postgres() -> None:
    """The database that the application's broker_url names."""


for _command in (migrate, check, grants, doctor, verify, compare, queues, jobs, job, cancel, dead):
    main.add_command(_command)
    postgres.add_command(_command)
main.add_command(serve)
