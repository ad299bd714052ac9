"""What is on the way to the database is found, and explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.doctor import OK, PROBLEM, WARNING
from tests.fixtures.database import new_database
from tests.fixtures.pooler import pooler

if TYPE_CHECKING:
    from .conftest import Doctor


def test_no_connection(doctor: Doctor) -> None:
    """What cannot be reached is a finding, not a traceback."""
    found = doctor.examine(doctor.admin.url_of("nobody-here", "wrong")).findings
    assert [(f.check, f.severity) for f in found] == [("connection", PROBLEM)]
    assert "correct user or password" in found[0].remedy


def test_encoding(doctor: Doctor, server: str) -> None:
    with new_database(server) as url:
        name = url.rpartition("/")[2]
        doctor.admin.run(f"CREATE DATABASE {name}_l TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        try:
            found = doctor.finding("connection", "LATIN1", f"{url}_l")
            assert found.severity == PROBLEM
            assert "ENCODING 'UTF8'" in found.remedy
        finally:
            doctor.admin.run(f"DROP DATABASE {name}_l")


def test_pooler(doctor: Doctor) -> None:
    """It is told of; and where the URL denies it, the notifications that do not arrive are."""
    with pooler(doctor.url) as url:
        assert doctor.finding("pooler", "transaction pooler", url).severity == WARNING
        assert doctor.finding("notifications", "not tried", url).severity == OK
        assert (
            "remove pooled=false"
            in doctor.finding("notifications", "did not arrive", url, pooled=False).remedy
        )


def test_pooler_that_workers_go_past(doctor: Doctor) -> None:
    """With `session_dsn` nothing is lost; whether it leads past the pooler to the same database is seen."""
    with pooler(doctor.url) as url:
        found = doctor.finding("pooler", "past which workers go", url, session_dsn=doctor.url)
        assert found.severity == OK
        found = doctor.finding("pooler", "through a transaction pooler as well", url, session_dsn=url)
        assert found.severity == WARNING
        other = doctor.url.rpartition("/")[0] + "/postgres"
        found = doctor.finding("pooler", "which is another database than", url, session_dsn=other)
        assert found.severity == PROBLEM
