"""`migrate`, `check` and `serve`: what there is before the first task."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from celery_postgres import schema
from celery_postgres.connection import Database
from celery_postgres.direct import for_sessions
from celery_postgres.rights import migrate_command

from .target import reporting, schema_name, target

if TYPE_CHECKING:
    from .target import Target


@click.command()
@click.option("--sql", is_flag=True, help="Print the SQL instead, for somebody who may execute it.")
@click.option("--role", default=None, help="With --sql: also the rights that this role needs at run time.")
@click.option(
    "--from",
    "present",
    metavar="VERSION",
    default=None,
    help="With --sql: only what a schema of this version lacks; `check` tells which it has.",
)
@click.pass_context
@reporting
def migrate(context: click.Context, sql: bool, role: str | None, present: str | None) -> None:
    """Create or upgrade the schema; harmless when it is up to date."""
    if sql:
        click.echo(schema.script(schema_name(context), role, present=present), nl=False)
        return
    if role is not None or present is not None:
        raise click.UsageError("--role and --from belong to --sql: add it, or leave them out")
    aim = target(context)
    schema.upgrade(aim.dsn, aim.options.schema)
    click.echo(f"schema {aim.options.schema} has version {schema.VERSION}")


@click.command()
@click.pass_context
@reporting
def check(context: click.Context) -> None:
    """Say what is there; exit code 1 unless this release can use it."""
    aim = target(context)
    session, server = Database(aim.dsn, aim.options).open()
    session.close()
    state = schema.verdict(server.schema_version)
    click.echo(f"database   {aim.dsn.masked()}")
    if aim.options.session_dsn is not None:
        click.echo(f"sessions   {_sessions(aim)}")
    click.echo(f"server     PostgreSQL {server.version // 10000}.{server.version % 10000}, as {server.user}")
    click.echo(f"pooler     {'yes: transaction mode' if server.pooled else 'no'}")
    found = server.schema_version or "none"
    click.echo(f"schema     {aim.options.schema}, version {found}, this release wants {schema.VERSION}")
    if state != "fit":
        click.echo(f"the schema is {state}: run `{migrate_command(aim.options.schema)}`", err=True)
        sys.exit(1)
    click.echo("ready")


def _sessions(aim: Target) -> str:
    """Where the sessions go that no pooler may share, and whether none does."""
    direct = for_sessions(Database(aim.dsn, aim.options))
    session, server = direct.open()
    session.close()
    return f"{direct.dsn.masked()}, {'also behind a pooler' if server.pooled else 'directly'}"


@click.command()
@click.argument("directory", required=False, type=click.Path(file_okay=False, path_type=Path))
@reporting
def serve(directory: Path | None) -> None:
    """Run a private PostgreSQL until Ctrl+C; keeps its data in DIRECTORY if one is given."""
    from celery_postgres.embedded import serve as run

    sys.exit(run(directory))
