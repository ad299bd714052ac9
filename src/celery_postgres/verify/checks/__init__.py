"""The checks, in the order in which they are made, each with those that it builds on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import database, ends, jobs, own_task, results

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_postgres.verify.outcome import Finding
    from celery_postgres.verify.stage import Stage

__all__ = ["CHECKS", "OWN_TASK", "UNTOUCHED", "Check"]


@dataclass(frozen=True)
class Check:
    """One check; it raises Fault or an `Error` of ours when it fails, NotRun when it does not apply."""

    name: str
    run: Callable[[Stage], Finding]
    needs: str | None = None


CHECKS = (
    Check("connection", database.connection),
    Check("versions", database.versions, "connection"),
    Check("rights", database.rights, "connection"),
    Check("schema", database.schema, "connection"),
    Check("queue counts", database.counts, "schema"),
    Check("priority", jobs.priority, "schema"),
    Check("job", jobs.job, "schema"),
    Check("retries", jobs.retries, "schema"),
    Check("failure", jobs.failure, "schema"),
    Check("results", results.results, "schema"),
    Check("chord", results.chords, "schema"),
    Check("killed worker", ends.redelivery, "schema"),
    Check("warm shutdown", ends.shutdown, "schema"),
)

OWN_TASK = Check("own task", own_task.own_task, "schema")

#: After everything is removed.
UNTOUCHED = Check("nothing else", database.untouched, "connection")
