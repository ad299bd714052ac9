"""Whether somebody stands between us and the server who gives our session to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.connection import Database
from celery_postgres.direct import for_sessions
from celery_postgres.doctor.finding import OK, PROBLEM, WARNING, Finding
from celery_postgres.errors import Error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.doctor.patient import Patient


def check(patient: Patient) -> Iterator[Finding]:
    """As the transport finds it out for itself."""
    pooled = patient.server.pooled
    figures = {"pooled": pooled}
    if not pooled:
        yield Finding("pooler", OK, "none that shows", figures=figures)
        return
    if patient.options.session_dsn is not None:
        yield _past_it(patient)
        return
    yield Finding(
        "pooler",
        WARNING,
        "a transaction pooler: no notification passes it and no session lock is held through it, so an idle "
        f"worker starts a task after up to {patient.options.poll_interval:g} s, and a dead one is noticed "
        "after 30 s",
        "tell workers a direct address in session_dsn, or connect them directly; if this is a pooler that "
        "keeps a session for each connection, add pooled=false to the URL",
        figures,
    )


def _past_it(patient: Patient) -> Finding:
    """Whether the sessions of workers reach the server itself, and the same database."""
    try:
        direct = for_sessions(Database(patient.dsn, patient.options))
        session, server = direct.open()
    except Error as exc:
        return Finding(
            "pooler", PROBLEM, f"session_dsn cannot be used: {exc}", "correct session_dsn", {"pooled": True}
        )
    session.close()
    if server.pooled:
        return Finding(
            "pooler",
            WARNING,
            f"session_dsn leads to {direct.dsn.masked()}, and through a transaction pooler as well",
            "write the address of PostgreSQL itself into session_dsn",
            {"pooled": True},
        )
    return Finding(
        "pooler", OK, "a transaction pooler, past which workers go by session_dsn", figures={"pooled": True}
    )
