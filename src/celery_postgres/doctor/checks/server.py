"""Which server it is, and how its database writes text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.doctor.finding import OK, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.doctor.patient import Patient


def check(patient: Patient) -> Iterator[Finding]:
    """An older server, a standby and another encoding do not even let a worker connect."""
    version, encoding = patient.row(
        "SELECT current_setting('server_version'), current_setting('server_encoding')"
    )
    yield Finding(
        "server",
        OK,
        f"PostgreSQL {version}, database {patient.server.database} in {encoding}",
        figures={"version": patient.server.version, "encoding": encoding},
    )
