"""Behind a transaction pooler everything works."""

from __future__ import annotations

import pytest

from tests.fixtures.pooler import pooler

from .run import run


@pytest.mark.long
def test_transaction_pooler(admin, tmp_path) -> None:
    """Also the redelivery, since the other worker sees the end of the killed one's process."""
    with pooler(admin.url, size=20) as url:
        done = run(url, tmp_path)
    assert done.failed() == set(), done.text
    assert "through a transaction pooler" in done.check("connection")["said"]
    assert done.check("killed worker")["verdict"] == "PASS"
    assert admin.schemas() == set()
