"""`grants`: the SQL of four roles, each with what its purpose needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import psycopg

from celery_postgres.errors import ConfigurationError
from celery_postgres.purposes import PURPOSES
from celery_postgres.refusals import not_connected, one_line
from celery_postgres.rights import script

from .target import reporting, target

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .target import Target


def _role_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for purpose in reversed(PURPOSES.values()):
        command = click.option(
            f"--{purpose.name}",
            metavar="ROLE",
            default=f"celery_{purpose.name}",
            show_default=True,
            help=f"The role that {purpose.does}.",
        )(command)
    return command


@click.command()
@_role_options
@click.option(
    "--only", type=click.Choice(list(PURPOSES)), multiple=True, help="Leave the others out; may be repeated."
)
@click.option("--owner", metavar="ROLE", help="The role that owns the tables: the admin becomes its member.")
@click.option("--apply", is_flag=True, help="Execute the SQL instead of printing it.")
@click.pass_context
@reporting
def grants(
    context: click.Context, only: tuple[str, ...], owner: str | None, apply: bool, **names: str
) -> None:
    """Print the SQL that makes four roles and gives each what it needs and no more.

    For whoever owns the tables to execute, once and again after each migration; it needs no superuser. The
    roles may not log in: grant them to those that do.
    """
    chosen = {purpose: names[purpose] for purpose in PURPOSES if not only or purpose in only}
    if owner and "admin" not in chosen:
        raise click.UsageError("--owner is for the admin: leave --only out, or add --only admin")
    if any(not name or "\0" in name or len(name.encode()) > 63 for name in (*names.values(), owner or "x")):
        raise click.UsageError("the name of a role has 1 to 63 bytes, and no NUL")
    aim = target(context)
    text = script(aim.options.schema, chosen, owner)
    if not apply:
        click.echo(text, nl=False)
        return
    with aim.session():  # over a schema that fits, so that the tables are there
        _execute(aim, text)
    click.echo("granted: " + ", ".join(f"{purpose} to {name}" for purpose, name in chosen.items()))


def _execute(aim: Target, text: str) -> None:
    try:
        connection = psycopg.connect(aim.dsn.at_primary().libpq(), autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as exc:
        raise not_connected(exc, aim.dsn) from exc
    with connection:
        try:
            connection.execute(text.encode())
        except psycopg.Error as exc:
            raise ConfigurationError(
                f"nothing was granted: {one_line(exc)}: have the owner of the schema {aim.options.schema} "
                "execute this, who may create the roles, or for whom they were created"
            ) from exc
