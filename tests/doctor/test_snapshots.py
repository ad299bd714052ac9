"""Who keeps dead rows is found, and explained; the remedy ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres.doctor import OK, WARNING
from celery_postgres.rights import script
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Doctor


@pytest.mark.parametrize("state", ["idle in transaction", "active"])
def test_session_that_keeps_rows(doctor: Doctor, state: str) -> None:
    """With its process id, age, state and query; ended by the remedy."""
    with psycopg.connect(doctor.url, application_name="report") as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("SELECT 'the report of March'")
        pid = other.info.backend_pid
        if state == "active":
            other.pgconn.send_query(b"SELECT pg_sleep(60), 'the report of March'")
        query = f"SELECT state FROM pg_stat_activity WHERE pid = {pid}"
        eventually(lambda: doctor.admin.run(query) == [(state,)])
        assert all(str(pid) not in finding.said for finding in doctor.findings("snapshots"))
        found = doctor.finding("snapshots", f"process {pid} ", patience_s=0)
        assert found.severity == WARNING
        assert all(word in found.said for word in ("report of March", state, "report"))
        doctor.admin.run(f"SELECT pg_terminate_backend({pid})")
        assert str(pid) in found.remedy
        eventually(lambda: doctor.admin.run(query) == [])
        other.close()


def test_vacuum_keeps_nothing(doctor: Doctor) -> None:
    """It has a snapshot, and may well take an hour; to cancel it is the opposite of a remedy."""
    doctor.admin.run("CREATE TABLE public.big AS SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n")
    with psycopg.connect(doctor.url, autocommit=True) as other:
        other.execute("SET vacuum_cost_delay = 100")
        other.execute("SET vacuum_cost_limit = 1")
        pid = other.info.backend_pid
        other.pgconn.send_query(b"VACUUM public.big")
        at_work = f"SELECT pid FROM pg_stat_activity WHERE pid = {pid} AND backend_xmin IS NOT NULL"
        eventually(lambda: doctor.admin.run(at_work))
        found = doctor.findings("snapshots", patience_s=0)
        assert doctor.admin.run(at_work)
        assert all(str(pid) not in finding.said for finding in found)
        doctor.admin.run(f"SELECT pg_terminate_backend({pid})")
        other.close()


def test_sessions_that_are_hidden(doctor: Doctor, new_role: Callable[..., str]) -> None:
    """A role without the right to see them is told so, and what gives it."""
    role = new_role()
    doctor.admin.run(script("celery", {"monitor": role}))
    url = doctor.admin.url_of(role)
    with psycopg.connect(doctor.url) as other:
        other.execute("SELECT 1")
        found = doctor.finding("snapshots", "sees no transaction", url)
        doctor.cure(found.remedy)
        assert all("sees no" not in finding.said for finding in doctor.findings("snapshots", url))


def test_prepared_transaction(doctor: Doctor) -> None:
    with psycopg.connect(doctor.url, autocommit=True) as other:
        other.execute("BEGIN")
        other.execute("INSERT INTO celery.exchange VALUES ('it''s', 'direct', true, false, '{}')")
        other.execute("PREPARE TRANSACTION 'it''s left behind'")
    found = doctor.finding("snapshots", 'prepared transaction "it\'s left behind"', patience_s=0)
    assert found.severity == WARNING
    doctor.cure(found.remedy[found.remedy.index("ROLLBACK") :])
    assert [f.severity for f in doctor.findings("snapshots", patience_s=0)] == [OK]


@pytest.mark.parametrize("kind", ["physical", "logical"])
def test_replication_slot(doctor: Doctor, kind: str) -> None:
    """One that nobody reads holds back the log, and rows."""
    plugin = ", 'pgoutput'" if kind == "logical" else ", true"
    doctor.admin.run(f"SELECT pg_create_{kind}_replication_slot('left_behind'{plugin})")
    found = doctor.finding("snapshots", f"the {kind} replication slot 'left_behind' has nobody")
    assert found.severity == WARNING
    doctor.admin.run("SELECT pg_drop_replication_slot('left_behind')")
    assert "pg_drop_replication_slot('left_behind')" in found.remedy
