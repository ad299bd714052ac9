"""Whether notifications arrive, and whether the server's queue of them is emptied."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from psycopg import sql

from celery_postgres.doctor.finding import OK, PROBLEM, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.doctor.patient import Patient

_WAIT_S = 2.0
_WORTH_A_WORD, _SERIOUS = 0.1, 0.5


def check(patient: Patient) -> Iterator[Finding]:
    yield _round_trip(patient)
    (used,) = patient.row("SELECT pg_notification_queue_usage()")
    if used < _WORTH_A_WORD:
        return
    yield Finding(
        "notifications",
        PROBLEM if used >= _SERIOUS else WARNING,
        f"the server's queue of notifications is {100 * used:.0f} % full: a session that listens has a "
        "transaction open; once it is full, every commit that notifies fails",
        "end the transaction: SELECT pid, usename, xact_start, query FROM pg_stat_activity WHERE state = "
        "'idle in transaction' ORDER BY xact_start;",
        {"queue_usage": used},
    )


def _round_trip(patient: Patient) -> Finding:
    """On a channel of its own, between two sessions of the same way as the workers'."""
    if not patient.options.notify:
        return Finding("notifications", OK, "not used: the option notify is off")
    if patient.server.pooled:
        return Finding("notifications", OK, "not tried: they do not pass a transaction pooler")
    channel = f"celery_doctor_{secrets.token_hex(8)}"
    with patient.connect() as listener, patient.connect() as ringer:
        listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        begin = time.monotonic()
        ringer.execute("SELECT pg_catalog.pg_notify(%s, '')", (channel,))
        for _ in listener.notifies(timeout=_WAIT_S, stop_after=1):
            taken = time.monotonic() - begin
            return Finding(
                "notifications",
                OK,
                f"one arrived after {1000 * taken:.1f} ms",
                figures={"round_trip_s": taken},
            )
    return Finding(
        "notifications",
        PROBLEM,
        f"one that was sent did not arrive within {_WAIT_S:g} s: idle workers start tasks at the next poll",
        "connect directly; if a transaction pooler stands in between, remove pooled=false",
    )
