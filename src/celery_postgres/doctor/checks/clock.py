"""Whether this machine and the server agree on the time.

Only the server's clock decides when something is due or dead. But a publisher's clock makes an ETA out of a
countdown. What the clocks of the workers' hosts say nobody writes down, so run this on each of them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from celery_postgres.doctor.finding import OK, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.doctor.patient import Patient

#: Seconds beside what the round trip leaves open.
_TOLERATED = 1.0


def check(patient: Patient) -> Iterator[Finding]:
    """The difference, as sure as half of a round trip."""
    before, begin = patient.clock(), time.monotonic()
    (there,) = patient.row("SELECT extract(epoch FROM clock_timestamp())::float8")
    unsure = (time.monotonic() - begin) / 2
    ahead = before + unsure - there
    figures = {"ahead_s": ahead, "unsure_s": unsure}
    if abs(ahead) - unsure <= _TOLERATED:
        yield Finding("clock", OK, f"as the server's, within {abs(ahead) + unsure:.1f} s", figures=figures)
        return
    way = "ahead of" if ahead > 0 else "behind"
    yield Finding(
        "clock",
        WARNING,
        f"the clock of this machine is {abs(ahead):.1f} s {way} the server's: what is published here with a "
        f"countdown starts {'late' if ahead > 0 else 'early'} by that, and `expires` is moved likewise",
        "synchronise the clocks, with chrony or the like",
        figures,
    )
