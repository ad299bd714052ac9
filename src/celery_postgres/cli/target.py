"""Which database a command is about, and how its errors reach the terminal."""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from celery_postgres import dsn, schema
from celery_postgres.connection import Database
from celery_postgres.errors import Error, SchemaError
from celery_postgres.options import Options
from celery_postgres.rights import migrate_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_postgres.wire import Session


class Target:
    """Which database, and with which options."""

    def __init__(self, url: str, given: dict[str, Any]) -> None:
        self.url = url
        self.given = given
        self.dsn = dsn.parse(url)
        self.options = Options.parse({**self.dsn.options, **given})

    @property
    def timeout(self) -> float | None:
        return self.options.statement_timeout or None

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session over a schema that this release can use. Looking at it never changes it: SchemaError."""
        session, server = Database(self.dsn, self.options).open()
        try:
            state = schema.verdict(server.schema_version)
            if state != "fit":
                raise SchemaError(
                    f"schema {self.options.schema} is {state}: run "
                    f"`{migrate_command(self.options.schema)}`, or name another one with the option schema"
                )
            yield session
        finally:
            session.close()


def application(context: click.Context) -> Any:
    """The application of `celery -A`; None for `celery-postgres`."""
    return getattr(context.obj, "app", None)


def target(context: click.Context, other_url: str | None = None) -> Target:
    """What the application, or `celery-postgres` itself, was told; another URL goes before."""
    app = application(context)
    if app is not None:
        uri = other_url or app.connection_for_write().as_uri(include_password=True).split(";")[0]
        return Target(uri, dict(app.conf.broker_transport_options or {}))
    url, given = context.obj
    url = other_url or url
    if not url:
        raise click.UsageError("which database? give --url, or set DATABASE_URL")
    return Target(url, given)


def schema_name(context: click.Context) -> str:
    """The schema, for what needs no database."""
    if application(context) is None:
        url, given = context.obj
        if not url:
            return Options.parse(given).schema
    return target(context).options.schema


def reporting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Our errors are sentences for people: one line and exit code 1, no traceback."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except Error as exc:
            raise click.ClickException(str(exc)) from exc

    return wrapped
