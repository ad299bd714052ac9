"""Consumers over a database that goes away: sites whose sessions are ended, whose server is halted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.fixtures.broker import Broker
from tests.fixtures.record import Record
from tests.fixtures.worker import Site, pytest_runtest_makereport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from celery_postgres.embedded import EmbeddedPostgres

__all__ = ["pytest_runtest_makereport"]

#: What a worker must never say while it rides out: Celery's word for beginning anew.
BEGUN_ANEW = "Connection to broker lost"

LATE = {"task_acks_late": True, "task_reject_on_worker_lost": True}


@pytest.fixture
def new_site(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    """Makes a site over a URL."""
    sites: list[Site] = []

    def make(url: str, **settings: Any) -> Site:
        sites.append(Site(Broker(url), Record(tmp_path / f"record{len(sites)}"), settings))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def site(database_url: str, new_site: Callable[..., Site]) -> Site:
    """A site over a database of the test's own, on the server that all tests share."""
    return new_site(database_url)


@pytest.fixture
def own_site(embedded_server: EmbeddedPostgres, new_site: Callable[..., Site]) -> Site:
    """A site over a server of the test's own."""
    return new_site(embedded_server.url)


@contextmanager
def database(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def end_sessions(url: str) -> int:
    """End every session of ours in the database, as a restart does; returns how many there were."""
    with database(url) as connection:
        rows = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    return len(rows)
