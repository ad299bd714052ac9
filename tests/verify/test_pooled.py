"""Behind a transaction pooler everything works, but for what has to wait for the beat."""

from __future__ import annotations

import pytest

from tests.bad_input.pooler import pooler

from .run import run


@pytest.mark.long
def test_transaction_pooler(admin, tmp_path) -> None:
    """The redelivery is left out with its reason, since it takes longer than a check may; the rest passes."""
    with pooler(admin.url, size=20) as url:
        done = run(url, tmp_path)
    assert done.failed() == set(), done.text
    assert "through a transaction pooler" in done.check("connection")["said"]
    assert done.check("killed worker")["verdict"] == "SKIP"
    assert "--timeout 45" in done.check("killed worker")["said"]
    assert admin.schemas() == set()
