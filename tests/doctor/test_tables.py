"""Dead rows, old statistics and a missing autovacuum are found, and explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.doctor import OK, PROBLEM, WARNING
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Doctor


def fill(doctor: Doctor, rows: int) -> None:
    doctor.admin.run(
        "ALTER TABLE celery.delayed SET (autovacuum_enabled = off)",
        f"INSERT INTO celery.delayed SELECT now(), n, 1, 0, 0 FROM generate_series(1, {rows}) n",
    )


def test_dead_rows(doctor: Doctor) -> None:
    """More than autovacuum would have removed; switched off for the table, which is told as well."""
    fill(doctor, 40_000)
    doctor.admin.run("ANALYZE celery.delayed", "DELETE FROM celery.delayed")
    eventually(lambda: any("dead rows beside" in f.said for f in doctor.findings("tables")))
    found = doctor.finding("tables", "delayed has 40000 dead rows")
    assert (found.severity, found.figures["dead"]) == (WARNING, 40_000)
    off = doctor.finding("tables", "autovacuum is switched off for delayed")
    assert off.severity == PROBLEM
    doctor.cure(off.remedy)
    doctor.admin.run("VACUUM celery.delayed")
    eventually(lambda: doctor.findings("tables")[0].severity == OK)


def test_old_statistics(doctor: Doctor) -> None:
    fill(doctor, 20_000)
    eventually(lambda: any("no statistics" in f.said for f in doctor.findings("tables")))
    found = doctor.finding("tables", "delayed has 20000 rows and no statistics")
    doctor.cure(found.remedy)
    eventually(lambda: not any("no statistics" in f.said for f in doctor.findings("tables")))


def test_autovacuum_is_off(doctor: Doctor, altered: Callable[[str, str], None]) -> None:
    altered("autovacuum", "off")
    assert doctor.finding("tables", "autovacuum is off").severity == PROBLEM
