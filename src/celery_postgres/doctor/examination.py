"""Makes the checks one after the other; what a check cannot see is a finding too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from celery_postgres.errors import Error
from celery_postgres.refusals import one_line
from celery_postgres.rights import grants_command

from .checks import CHECKS
from .finding import OK, PROBLEM, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .checks import Check
    from .patient import Patient


@dataclass(frozen=True)
class Examination:
    """What was found, and where."""

    database: str
    schema: str
    findings: list[Finding]


def examine(patient: Patient) -> Examination:
    """All checks that can be made. Never raises for what is wrong with the database."""
    findings: list[Finding] = []
    try:
        taken = patient.open()
    except Error as exc:
        findings.append(_not_connected(exc))
    else:
        findings.append(
            Finding(
                "connection",
                OK,
                f"as {patient.role}, in {1000 * taken:.0f} ms",
                figures={"connect_s": taken, "role": patient.role},
            )
        )
        findings += [finding for check in CHECKS for finding in _made(check, patient)]
    finally:
        patient.close()
    return Examination(patient.dsn.masked(), patient.schema, findings)


def nowhere(exc: Error) -> Examination:
    """What is left where the URL or an option is wrong: that."""
    return Examination("no database", "not known", [_not_connected(exc)])


def _not_connected(exc: Error) -> Finding:
    said, _, remedy = str(exc).rpartition(": ")
    return Finding("connection", PROBLEM, said or str(exc), remedy)


def _made(check: Check, patient: Patient) -> Iterator[Finding]:
    if check.in_schema and patient.server.schema_version is None:
        return  # said already, by the check of the schema
    try:
        yield from check.run(patient)
    except psycopg.errors.InsufficientPrivilege as exc:
        yield Finding(
            check.name,
            WARNING,
            f"not looked at: {one_line(exc)}",
            f"let the role be a monitor: the SQL is printed by `{grants_command(patient.schema)}`",
        )
    except (psycopg.Error, Error) as exc:
        yield Finding(check.name, WARNING, f"not looked at: {one_line(exc)}", "run this again")
