"""A statement succeeds, and the commit behind it does not: no answer is left for the error to belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres import dsn
from celery_postgres.connection import Database
from celery_postgres.errors import DatabaseRejected, DatabaseUnavailable
from celery_postgres.options import Options
from celery_postgres.sql import Statement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.wire import Session

ENTER = Statement("enter", "INSERT INTO public.entered VALUES (1), (1) RETURNING n")
ASK = Statement("ask", "SELECT count(*) FROM public.entered")


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    opened, _ = Database(dsn.parse(database_url), Options()).open()
    yield opened
    opened.close()


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def test_refused_commit_is_the_batches_error(database_url: str, session: Session) -> None:
    """Its session stays, as after any other refusal."""
    execute(database_url, "CREATE TABLE entered (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(DatabaseRejected) as refused:
        session.run((ENTER, ()))
    assert refused.value.sqlstate == "23505"
    assert session.run((ASK, ()))[0].number(0, 0) == 0


def test_farewell_behind_the_last_answer(database_url: str, session: Session) -> None:
    """A server that is told to stop may say so between the answers and the end of a batch."""
    execute(
        database_url,
        "CREATE TABLE entered (n int)",
        "CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER leave AFTER INSERT ON entered DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION leave()",
    )
    with pytest.raises(DatabaseUnavailable):
        session.run((ENTER, ()))
    assert session.broken is not None
