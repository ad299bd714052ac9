"""A message that kills whoever executes it is set aside, whole, and runs when its task is mended."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from click.testing import CliRunner

from celery_postgres.cli import main
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fixtures.worker import Site

pytestmark = pytest.mark.ours("counts deliveries")

OFTEN = 2
#: One message at a time: what a dying worker holds beside counts as delivered, too.
SETTINGS: dict[str, Any] = {
    "task_acks_late": True,
    "worker_prefetch_multiplier": 1,
    "broker_transport_options": {"max_deliveries": OFTEN, "grace": 0.2},
}

DEAD = (
    "SELECT m.task_id, x.queue, x.reason, x.deliveries, convert_from(m.body, 'UTF8')"
    " FROM celery.dead_letter x JOIN celery.message m ON m.id = x.message_id"
)


def dead(site: Site) -> list[tuple[Any, ...]]:
    with psycopg.connect(site.broker.url) as database:
        return database.execute(DEAD).fetchall()


def mend_and_redrive(site: Site, task_id: str, cure: Path) -> None:
    cure.touch()
    done = CliRunner().invoke(main, ["--url", site.broker.url, "dead", "redrive", task_id])
    assert (done.exit_code, done.stdout) == (0, "redriven: 1 (1 to celery)\n"), done.output
    site.record.wait_for_one(task_id, "end")


def check(site: Site, poison: str, others: list[str], cure: Path) -> None:
    """It was executed as often as it may, lies there whole, and nobody else noticed."""
    ((task_id, queue, reason, deliveries, body),) = dead(site)
    assert (task_id, queue, reason, deliveries) == (poison, "celery", "max_deliveries", OFTEN)
    assert str(cure) in body
    counts = site.record.counts("begin")
    assert counts == {poison: OFTEN} | dict.fromkeys(others, 1)


def test_killed_children(site: Site, tmp_path: Path) -> None:
    """A task that kills its pool process again and again; the worker goes on."""
    cure = tmp_path / "cure"
    worker = site.worker(**SETTINGS)
    others = [site.send("record")]
    poison = site.send("poison", str(cure))
    others += [site.send("record") for _ in range(3)]
    eventually(lambda: dead(site), 60)
    site.record.wait_for(others)
    check(site, poison, others, cure)
    assert any(
        f"given back after {OFTEN} deliveries: it goes to dead_letter" in line for line in worker.lines
    )
    mend_and_redrive(site, poison, cure)
    assert worker.stop() == 0


def test_killed_workers(site: Site, tmp_path: Path) -> None:
    """A task that kills the whole worker again and again; the next one runs the others."""
    cure = tmp_path / "cure"
    poison = send_first(site, str(cure))
    others = [site.send("record") for _ in range(3)]
    for _ in range(OFTEN):
        victim = site.start_worker(pool="solo", **SETTINGS)
        assert victim.wait(60) == -signal.SIGKILL
    worker = site.worker(pool="solo", **SETTINGS)
    site.record.wait_for(others)
    eventually(lambda: dead(site), 30)
    check(site, poison, others, cure)
    mend_and_redrive(site, poison, cure)
    assert worker.stop() == 0


def send_first(site: Site, cure: str) -> str:
    """Sent before there is any worker, so that it is the first to be executed."""
    site.declare()
    return site.send("poison", cure)
