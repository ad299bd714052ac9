"""The way to the database: engine, tables, and transactions that tell a lost connection from a mistake."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from .errors import PermanentError, TransientError
from .models import SCHEMA, Base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

# Any number that nobody else in this database uses for the same purpose.
_CREATE_LOCK = 8_237_450_119


def engine_for(url: str | None = None) -> Engine:
    """An engine for the URL, by default the one in DATABASE_URL. Connects to nothing yet.

    `postgresql://` and `postgres://` are what everybody writes; psycopg 3 is used for both.
    """
    url = url or os.environ.get("DATABASE_URL")
    if not url:
        raise PermanentError("DATABASE_URL is not set; set it to postgresql://user:password@host/database.")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Without its cause, which may quote the password.
        raise PermanentError(
            "DATABASE_URL is not of the form postgresql://user:password@host/database."
        ) from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise PermanentError(
            f"DATABASE_URL names {parsed.get_backend_name()}; this application needs PostgreSQL."
        )
    # No pool: a connection kept over a fork would be shared by two processes, and an idle worker
    # should not cost the server a connection.
    return create_engine(parsed.set(drivername="postgresql+psycopg"), poolclass=NullPool)


def sessions_for(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine, expire_on_commit=False)


def create_tables(engine: Engine) -> None:
    """Create the schema and every table that is missing. Harmless when repeated, also at the same time."""
    with _available(), engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATE_LOCK})
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        Base.metadata.create_all(connection)


def drop_tables(engine: Engine) -> None:
    """Remove everything that the application ever stored."""
    with _available(), engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))


@contextmanager
def transaction(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """One transaction: committed at the end, rolled back on any error.

    A lost connection, a deadlock or a server that is starting raises TransientError.
    """
    with _available(), sessions.begin() as session:
        yield session


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise TransientError(f"The database is not available: {_first_line(error)}") from error


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]
