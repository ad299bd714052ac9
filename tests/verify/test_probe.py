"""The probe's application does not show in others of the same process."""

from __future__ import annotations

from pathlib import Path

from celery import Celery

from celery_postgres.verify import probe
from celery_postgres.verify.address import Address


def test_no_other_application_gets_its_tasks(empty_database_url: str) -> None:
    """Celery gives a task that is shared to every application of the process, and warns of the second."""
    address = Address(empty_database_url, {}, Path("notes"), application=None)
    for _ in range(2):
        assert "verify.echo" in probe.application(address).tasks
    assert not [name for name in Celery("other", set_as_current=False).tasks if name.startswith("verify.")]
