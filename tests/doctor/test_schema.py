"""Tables that are not what this release made are found, and explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_postgres.doctor import OK, PROBLEM, WARNING

if TYPE_CHECKING:
    from .conftest import Doctor


def test_schema_is_missing(doctor: Doctor) -> None:
    doctor.admin.run("DROP SCHEMA celery CASCADE")
    found = doctor.finding("schema", "there is no schema celery")
    assert (found.severity, found.remedy) == (PROBLEM, "`celery-postgres migrate`")


@pytest.mark.parametrize(
    ("version", "severity", "said"),
    [
        ("1.2", WARNING, "has version 1.2, this release wants"),
        ("2.0", PROBLEM, "the schema has version 2.0, this release knows"),
        ("abc", PROBLEM, "which no release wrote"),
    ],
)
def test_version(doctor: Doctor, version: str, severity: str, said: str) -> None:
    """Older, newer and somebody else's."""
    doctor.admin.run(f"UPDATE celery.schema_version SET version_num = '{version}'")
    found = doctor.finding("schema", said)
    assert found.severity == severity
    assert found.remedy


@pytest.mark.parametrize(
    ("statement", "said", "severity"),
    [
        ("DROP INDEX celery.ready_claim_idx", "the index ready_claim_idx of ready is missing", PROBLEM),
        ("DROP TABLE celery.delayed CASCADE", "the table delayed is missing", PROBLEM),
        ("DROP VIEW celery.job_stats", "the view job_stats is missing", PROBLEM),
        ("ALTER TABLE celery.consumer DROP beat_at CASCADE", "the column beat_at of consumer is", PROBLEM),
        ("ALTER TABLE celery.message ALTER task TYPE varchar(9)", "the column task of message is", PROBLEM),
        ("ALTER TABLE celery.message ALTER body DROP NOT NULL", "bytea, may be NULL", PROBLEM),
        ("ALTER TABLE celery.unacked SET UNLOGGED", "the table unacked is unlogged", PROBLEM),
        (
            "ALTER TABLE celery.message DROP CONSTRAINT message_uuid_key",
            "the constraint message_uuid_key of message is missing",
            PROBLEM,
        ),
        (
            (
                "CREATE FUNCTION celery.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
                "CREATE TRIGGER slow BEFORE INSERT ON celery.message FOR EACH ROW EXECUTE FUNCTION celery.f()"
            ),
            "a trigger slow was added to message",
            WARNING,
        ),
        ("ALTER TABLE celery.ready ENABLE ROW LEVEL SECURITY", "row security is on for ready", WARNING),
        (
            "ALTER TABLE celery.message ADD surplus int NOT NULL DEFAULT 1",
            "a column surplus that must not be NULL",
            WARNING,
        ),
    ],
)
def test_schema_was_changed(doctor: Doctor, statement: str, said: str, severity: str) -> None:
    """An object that is missing, another one than was made, or one that is in the way."""
    if "varchar" in statement:
        doctor.admin.run("DROP VIEW celery.job, celery.job_stats")
    doctor.admin.run(statement)
    found = doctor.finding("schema", said)
    assert (found.severity, bool(found.remedy)) == (severity, True)


def test_invalid_index(doctor: Doctor) -> None:
    """As a failed CREATE INDEX CONCURRENTLY leaves one."""
    doctor.admin.run(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'celery.message_expiry_idx'::regclass"
    )
    found = doctor.finding("schema", "message_expiry_idx of message is invalid")
    doctor.cure(found.remedy)
    assert doctor.findings("schema")[0].severity == OK
