"""A site over a database of the test's own, whatever other broker is under test elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fixtures.broker import Broker
from tests.fixtures.record import Record
from tests.fixtures.worker import Site, pytest_runtest_makereport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["pytest_runtest_makereport"]


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(Broker(database_url), Record(tmp_path / "record"), {})
    yield made
    made.close()
