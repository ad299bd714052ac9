"""A site behind a pooler in transaction mode: its messages, its results, its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.fixtures.broker import Broker
from tests.fixtures.pooler import Pooler, new_pooler
from tests.fixtures.record import Record
from tests.fixtures.worker import Site, pytest_runtest_makereport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["pytest_runtest_makereport"]

#: How consumers get their sessions: through the pooler like everybody, or past it.
WAYS = ("the beat alone", "session_dsn")


@pytest.fixture
def pooler(database_url: str) -> Iterator[Pooler]:
    with new_pooler(database_url, size=10) as made:
        yield made


@pytest.fixture
def new_site(pooler: Pooler, database_url: str, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes the site; keywords are Celery settings of all its processes."""
    sites: list[Site] = []

    def make(way: str, **settings: Any) -> Site:
        url = f"{pooler.url}?poll_interval=0.2"
        if way == "session_dsn":
            # Polls that never come: what is not pushed is not found.
            session_dsn = quote(database_url, safe="")
            url = f"{pooler.url}?poll_interval=600&max_poll_interval=600&session_dsn={session_dsn}"
        settings = {"result_backend": url, "task_ignore_result": False, **settings}
        sites.append(Site(Broker(url), Record(tmp_path / "record"), settings))
        return sites[-1]

    yield make
    for site in sites:
        backend = site.client.backend
        backend.result_consumer.stop()
        backend._results.close()
        site.close()
