"""The commands: `celery -A app postgres …`, and `celery-postgres …` without an application."""

from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import __version__, dsn, schema
from .connection import Database
from .errors import Error
from .options import Options
from .rights import migrate_command

if TYPE_CHECKING:
    from collections.abc import Callable


class Target:
    """Which database, and with which options."""

    def __init__(self, url: str, given: dict[str, Any]) -> None:
        self.dsn = dsn.parse(url)
        self.options = Options.parse({**self.dsn.options, **given})


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


def _target(context: click.Context) -> Target:
    app = getattr(context.obj, "app", None)
    if app is not None:
        connection = app.connection_for_write()
        return Target(
            connection.as_uri(include_password=True).split(";")[0],
            dict(app.conf.broker_transport_options or {}),
        )
    url, given = context.obj
    if not url:
        raise click.UsageError("which database? give --url, or set DATABASE_URL")
    return Target(url, given)


def _reporting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Our errors are sentences for people: one line and exit code 1, no traceback."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except Error as exc:
            raise click.ClickException(str(exc)) from exc

    return wrapped


@click.command()
@click.option("--sql", is_flag=True, help="Print the SQL instead, for somebody who may execute it.")
@click.option("--role", default=None, help="With --sql: also the rights that this role needs at run time.")
@click.pass_context
@_reporting
def migrate(context: click.Context, sql: bool, role: str | None) -> None:
    """Create or upgrade the schema; harmless when it is up to date."""
    target = _target(context)
    if sql:
        click.echo(schema.script(target.options.schema, role), nl=False)
        return
    schema.upgrade(target.dsn, target.options.schema)
    click.echo(f"schema {target.options.schema} has version {schema.VERSION}")


@click.command()
@click.pass_context
@_reporting
def check(context: click.Context) -> None:
    """Say what is there; exit code 1 unless this release can use it."""
    target = _target(context)
    session, server = Database(target.dsn, target.options).open()
    session.close()
    state = schema.verdict(server.schema_version)
    click.echo(f"database   {target.dsn.masked()}")
    click.echo(f"server     PostgreSQL {server.version // 10000}.{server.version % 10000}, as {server.user}")
    click.echo(f"pooler     {'yes: transaction mode' if server.pooled else 'no'}")
    found = server.schema_version or "none"
    click.echo(f"schema     {target.options.schema}, version {found}, this release wants {schema.VERSION}")
    if state != "fit":
        click.echo(f"the schema is {state}: run `{migrate_command(target.options.schema)}`", err=True)
        sys.exit(1)
    click.echo("ready")


@click.command()
@click.argument("directory", required=False, type=click.Path(file_okay=False, path_type=Path))
@_reporting
def serve(directory: Path | None) -> None:
    """Run a private PostgreSQL until Ctrl+C; keeps its data in DIRECTORY if one is given."""
    from .embedded import serve as run

    sys.exit(run(directory))


for _command in (migrate, check):
    main.add_command(_command)
    postgres.add_command(_command)
main.add_command(serve)
