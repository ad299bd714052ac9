"""What is wrong with the server is made for real, found, and explained."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres.doctor import OK, PROBLEM, WARNING
from celery_postgres.embedded import EmbeddedPostgres, find_bindir
from celery_postgres.rights import script
from tests.bad_input.admin import Admin

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Doctor


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_durability(doctor: Doctor, altered: Callable[[str, str], None], name: str) -> None:
    altered(name, "off")
    found = doctor.finding("durability", f"{name} is off")
    assert (found.severity, f"ALTER SYSTEM SET {name} = on" in found.remedy) == (PROBLEM, True)


def test_synchronous_commit_of_the_role(doctor: Doctor, new_role: Callable[..., str]) -> None:
    role = new_role("LOGIN SUPERUSER")
    doctor.admin.run(f'ALTER ROLE "{role}" SET synchronous_commit = off')
    url = doctor.admin.url_of(role)
    found = doctor.finding("durability", f"synchronous_commit is off for {role}", url)
    assert found.severity == WARNING
    doctor.cure(found.remedy)
    assert doctor.findings("durability", url)[0].severity == OK


def test_connections_of_other_roles_count(doctor: Doctor, new_role: Callable[..., str]) -> None:
    """Also for a role that is not told what they are."""
    role = new_role("LOGIN")
    doctor.admin.run(script("celery", {"monitor": role}))
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(psycopg.connect(doctor.admin.url))
        (found,) = doctor.findings("connections", doctor.admin.url_of(role))
        assert found.figures["used"] > 10


def test_synchronous_standby_that_is_gone(doctor: Doctor, altered: Callable[[str, str], None]) -> None:
    """Every commit would wait for it."""
    altered("synchronous_standby_names", "nobody")
    assert doctor.finding("durability", "no synchronous standby is there").severity == PROBLEM


@pytest.mark.parametrize(("wrong_by", "said"), [(5.0, "5.0 s ahead of"), (-5.0, "5.0 s behind")])
def test_clock(doctor: Doctor, wrong_by: float, said: str) -> None:
    found = doctor.finding("clock", said, clock=lambda: time.time() + wrong_by)
    assert found.severity == WARNING


def test_connections_of_the_role(doctor: Doctor, new_role: Callable[..., str]) -> None:
    role = new_role("LOGIN SUPERUSER CONNECTION LIMIT 4")
    found = doctor.finding("connections", "of 4 connections of the role", doctor.admin.url_of(role))
    assert found.severity == WARNING
    doctor.cure(found.remedy)


def test_connections_of_the_server(doctor: Doctor) -> None:
    open_ = [psycopg.connect(doctor.url) for _ in range(33)]
    try:
        found = doctor.finding("connections", "connections of the server")
        assert found.severity == WARNING
        assert found.figures["used"] >= 33
    finally:
        for connection in open_:
            connection.close()


def test_notification_queue(doctor: Doctor, pytestconfig: pytest.Config) -> None:
    """A session that listens and has a transaction open keeps what was sent since."""
    if "max_notify_queue_pages" not in {name for (name,) in doctor.admin.run("SELECT name FROM pg_settings")}:
        pytest.skip("not run: this server's queue of notifications is too large to be filled here")
    bindir = find_bindir(pytestconfig.getoption("--postgres-major"))
    with (
        EmbeddedPostgres(settings={"max_notify_queue_pages": "64"}, bindir=bindir) as small,
        psycopg.connect(small.url, autocommit=True) as listener,
    ):
        listener.execute("LISTEN elsewhere")
        listener.execute("BEGIN")
        listener.execute("SELECT pg_current_xact_id()")
        Admin(small.url).run(
            "SELECT pg_notify('elsewhere', repeat('x', 7000) || n) FROM generate_series(1, 20) n"
        )
        found = doctor.finding("notifications", "queue of notifications", small.url)
        assert found.severity == WARNING
