"""A database for each test, and sessions that are driven against each other."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from celery_postgres import dsn, schema
from tests.fixtures.proxy import Proxy

from .hand import Hand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def migrated_url(module_database_url: str) -> str:
    """A database with the schema, shared by the tests of a module."""
    schema.upgrade(dsn.parse(module_database_url), "celery")
    return module_database_url


@pytest.fixture
def url(migrated_url: str) -> Iterator[str]:
    """The same, with nothing in it and nobody connected."""
    yield migrated_url
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'celery'::regnamespace AND relkind = 'r'"
            " AND relname NOT IN ('schema_version', 'exchange')"
        ).fetchall()
        names = sql.SQL(", ").join(sql.Identifier("celery", name) for (name,) in tables)
        connection.execute(sql.SQL("TRUNCATE {}").format(names))
        connection.execute("DELETE FROM celery.exchange WHERE name NOT LIKE 'amq.%'")


@pytest.fixture
def new_hand(url: str) -> Iterator[Callable[[], Hand]]:
    """Opens sessions that are led by the hand."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Hand(url))


@pytest.fixture
def hand(new_hand: Callable[[], Hand]) -> Hand:
    return new_hand()


@pytest.fixture
def other(new_hand: Callable[[], Hand]) -> Hand:
    return new_hand()


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    """A link to the server that can be cut."""
    with Proxy(url) as proxy:
        yield proxy


@pytest.fixture
def new_name() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"name{next(numbers)}"
