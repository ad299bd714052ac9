"""Workers ride out what separates them from the database: Celery sees nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fixtures.waiting import eventually
from tests.fixtures.worker import POOLS

from .conftest import BEGUN_ANEW, LATE, end_sessions

if TYPE_CHECKING:
    from pathlib import Path

    from celery_postgres.embedded import EmbeddedPostgres
    from tests.fixtures.worker import Site, Worker

CONNECTED = "connected again after"


def assert_never_begun_anew(*workers: Worker) -> None:
    for worker in workers:
        assert not [line for line in worker.lines if BEGUN_ANEW in line or "Traceback" in line]


@pytest.mark.parametrize("pool", POOLS)
def test_ended_sessions(site: Site, pool: str, tmp_path: Path) -> None:
    """Tasks run on, none twice; what was prefetched keeps its place, and the worker takes new ones."""
    concurrency = 1 if pool in ("solo", "prefork") else 2
    worker = site.worker(
        "-Q", "celery", pool=pool, concurrency=concurrency, worker_prefetch_multiplier=4, **LATE
    )
    running = site.send("hold", str(tmp_path / "go"))
    site.record.wait_for_one(running)
    waiting = [site.send("record") for _ in range(3)]
    eventually(lambda: site.broker.unacked() == 4 if pool == "prefork" else True)
    assert end_sessions(site.broker.url) >= 2
    if pool == "solo":  # which says it between its tasks
        (tmp_path / "go").touch()
    worker.wait_for_line(CONNECTED)
    (tmp_path / "go").touch()
    later = site.send("record")
    site.record.wait_for_one(running, "end")
    site.record.wait_for([*waiting, later])
    eventually(lambda: site.broker.unacked() == 0)
    assert set(site.record.counts().values()) == {1}
    assert_never_begun_anew(worker)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restarted_server(
    own_site: Site, embedded_server: EmbeddedPostgres, mode: str, tmp_path: Path
) -> None:
    """A task that runs over a restart, or a crash, of the server runs once; what was published runs."""
    worker = own_site.worker("-Q", "celery", concurrency=2, worker_prefetch_multiplier=4, **LATE)
    running = own_site.send("hold", str(tmp_path / "go"))
    own_site.record.wait_for_one(running)
    before = [own_site.send("record") for _ in range(20)]
    embedded_server.halt(mode)  # type: ignore[arg-type]
    worker.wait_for_line("the database is away, trying again")
    embedded_server.start()
    worker.wait_for_line(CONNECTED)
    (tmp_path / "go").touch()
    after = [own_site.send("record") for _ in range(20)]
    own_site.record.wait_for([*before, *after])
    own_site.record.wait_for_one(running, "end")
    eventually(lambda: own_site.broker.unacked() == 0)
    assert own_site.record.counts()[running] == 1
    if mode == "fast":
        assert set(own_site.record.counts().values()) == {1}
    assert_never_begun_anew(worker)
