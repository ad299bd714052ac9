"""What waits for somebody to look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.doctor.finding import OK, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.doctor.patient import Patient

_DEAD = """SELECT reason, count(*), extract(epoch FROM now() - min(died_at))::float8
  FROM {s}.dead_letter GROUP BY reason ORDER BY reason"""


def check(patient: Patient) -> Iterator[Finding]:
    dead = patient.rows(_DEAD)
    if not dead:
        yield Finding("dead letters", OK, "none")
    for reason, number, oldest in dead:
        yield Finding(
            "dead letters",
            WARNING,
            f"{number} with the reason {reason!r}, the oldest for {oldest:.0f} s",
            "`celery-postgres dead list` lists them, `dead redrive` runs them, `dead discard` forgets them",
            {"reason": reason, "number": number, "oldest_s": oldest},
        )
