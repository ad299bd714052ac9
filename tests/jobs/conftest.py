"""Sites whose broker and result backend are one database, and looks into its views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.fixtures.broker import Broker
from tests.fixtures.record import Record
from tests.fixtures.worker import Site, pytest_runtest_makereport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["pytest_runtest_makereport"]


class Shop:
    """A site whose results are kept beside its messages."""

    def __init__(self, url: str, path: Path) -> None:
        self.url = url
        settings = {"result_backend": url, "task_ignore_result": False}
        self.site = Site(Broker(url), Record(path), settings)
        self.database = psycopg.connect(url, autocommit=True, row_factory=dict_row)

    def send(self, task: str, *args: Any, **options: Any) -> str:
        """Publish a task whose result is kept if its worker keeps any."""
        sent = self.site.client.send_task(f"probe.{task}", args, **options)
        return str(sent.id)

    def job(self, task_id: str) -> dict[str, Any] | None:
        """The one row of the view, None where there is none."""
        rows = self.database.execute("SELECT * FROM celery.job WHERE id = %s", (task_id,)).fetchall()
        assert len(rows) <= 1
        return rows[0] if rows else None

    def state(self, task_id: str) -> str | None:
        job = self.job(task_id)
        return job and job["state"]

    def begun(self, task_id: str) -> None:
        """Return when the task's code runs."""
        self.site.record.wait_for_one(task_id)

    def close(self) -> None:
        self.database.close()
        backend = self.site.client.backend
        backend.result_consumer.stop()
        backend._results.close()
        self.site.close()


@pytest.fixture
def shop(database_url: str, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(database_url, tmp_path / "record")
    yield made
    made.close()


@pytest.fixture(scope="module")
def new_shop(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Shop]]:
    """Makes shops over the module's database."""
    shops: list[Shop] = []

    def make() -> Shop:
        shops.append(Shop(module_database_url, tmp_path_factory.mktemp("shop") / "record"))
        return shops[-1]

    yield make
    for shop in shops:
        shop.close()
