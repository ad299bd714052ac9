"""A worker over one database, and the application that sends to it and waits."""

from __future__ import annotations

import itertools
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kombu import pools

from tests.fixtures.process import Process
from tests.fixtures.worker import pytest_runtest_makereport

from . import sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

__all__ = ["pytest_runtest_makereport"]

ROOT = Path(__file__).parents[2]
_numbers = itertools.count(1)


class SumsWorker(Process):
    """A worker of the application in `sums.py`."""

    def __init__(self, url: str, *arguments: str, pool: str = "prefork", **settings: Any) -> None:
        env = {"SUMS_URL": url, "SUMS_SETTINGS": json.dumps(settings), "PYTHONPATH": str(ROOT)}
        name = f"{pool}{next(_numbers)}@{os.uname().nodename}"
        options = ["-P", pool, "-n", name, "-l", "INFO", "--without-mingle", *(arguments or ("-c", "2"))]
        super().__init__(
            name, [sys.executable, "-m", "celery", "-A", "tests.results.sums", "worker", *options], env
        )

    def wait_until_ready(self) -> SumsWorker:
        self.wait_for_line(r" ready\.$")
        return self


@pytest.fixture
def start_worker() -> Iterator[Callable[..., SumsWorker]]:
    """Starts workers that do not outlive the test."""
    started: list[SumsWorker] = []

    def start(url: str, *arguments: str, **settings: Any) -> SumsWorker:
        started.append(SumsWorker(url, *arguments, **settings))
        return started[-1].wait_until_ready()

    yield start
    for worker in started:
        worker.end()


@pytest.fixture
def new_app() -> Iterator[Callable[..., Celery]]:
    """Makes applications whose sessions end with the test."""
    made: list[Celery] = []

    def make(url: str, **settings: Any) -> Celery:
        made.append(sums.make_app(url, **settings))
        return made[-1]

    yield make
    for app in made:
        close(app)


@pytest.fixture
def app(new_app: Callable[..., Celery], database_url: str) -> Celery:
    """An application over a database of the test's own; nobody works for it."""
    return new_app(database_url)


@pytest.fixture(scope="module")
def worked(module_database_url: str) -> Iterator[Celery]:
    """An application for which a worker works, for all tests of a module."""
    worker = SumsWorker(module_database_url)
    made = sums.make_app(module_database_url)
    with pytest.MonkeyPatch.context() as patch:
        # Signatures made here carry the tasks' names only; this is the application that sends them.
        patch.setattr(sums.app, "_backend_cache", None)
        sums.app.conf.update(broker_url=module_database_url, result_backend=module_database_url)
        worker.wait_until_ready()
        yield sums.app
        close(sums.app)
    close(made)
    worker.end()


def close(app: Celery) -> None:
    app.backend.result_consumer.stop()
    app.backend._results.close()
    app.close()
    pools.reset()
