"""Where the proof of concept takes place: the database of DATABASE_URL, and its schema."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import psycopg

from celery_postgres import dsn, schema

from .app import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 60.0


def give_up(reason: object) -> NoReturn:
    """End with one line and exit code 1."""
    print(f"It did not work: {reason}", file=sys.stderr)
    sys.exit(1)


def url() -> str:
    """DATABASE_URL, of whatever tool it is."""
    return os.environ.get("DATABASE_URL") or give_up(
        "set DATABASE_URL to postgresql://user:password@host/database; `celery-postgres serve` makes one"
    )


@contextmanager
def database() -> Iterator[psycopg.Connection[Any]]:
    """A session for looking at the tables."""
    with psycopg.connect(dsn.parse(url()).libpq(), autocommit=True) as connection:
        yield connection


def set_up() -> int:
    """Create the schema and its tables; the number of tables. Harmless when repeated."""
    schema.upgrade(dsn.parse(url()), SCHEMA)
    with database() as connection:
        return count(connection, "SELECT count(*) FROM pg_tables WHERE schemaname = 'poc'")


def count(connection: psycopg.Connection[Any], query: str) -> int:
    """The one number that a query finds."""
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def waiting(connection: psycopg.Connection[Any]) -> int:
    """How many jobs wait, also for their time."""
    return count(connection, "SELECT (SELECT count(*) FROM poc.ready) + (SELECT count(*) FROM poc.delayed)")
