"""When the server hears of an acknowledgement."""

from __future__ import annotations

import pytest

from tests.fixtures.broker import count_rows
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import POOLS


@pytest.mark.ours("looks into our tables")
@pytest.mark.parametrize("pool", POOLS)
def test_early_acknowledgement_does_not_wait_for_the_task(site, pool, tmp_path):
    """Celery's default: the message is gone while its task still runs, also where that blocks the loop."""
    site.worker("-Q", "celery", pool=pool)
    running = site.send("hold", str(tmp_path / "go"))
    site.record.wait_for_one(running)
    eventually(lambda: not count_rows(site.broker.url, "message"), what="end of the message")
    assert site.record.of(running, "end") == []
