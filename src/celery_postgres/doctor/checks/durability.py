"""Whether what was committed is still there after a crash, and whether a commit ever ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.doctor.finding import OK, PROBLEM, WARNING, Finding
from celery_postgres.rights import identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.doctor.patient import Patient

_SETTINGS = """SELECT current_setting('fsync'), current_setting('full_page_writes'),
       (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),
       current_setting('synchronous_standby_names'),
       (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')),
       pg_has_role('pg_read_all_stats', 'USAGE')"""


def check(patient: Patient) -> Iterator[Finding]:
    """Our sessions set `synchronous_commit` themselves; the application's have what is looked at here."""
    fsync, pages, commit, standbys, present, sees = patient.row(_SETTINGS)
    figures = {"fsync": fsync, "full_page_writes": pages, "synchronous_commit": commit}
    found = False
    for name, value, means in (
        ("fsync", fsync, "a crash of the machine loses messages and may damage every table"),
        ("full_page_writes", pages, "a crash of the machine may damage tables"),
    ):
        if value == "off":
            found = True
            yield Finding(
                "durability",
                PROBLEM,
                f"{name} is off: {means}",
                f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();",
                figures,
            )
    if commit in ("off", "local"):
        found = True
        yield Finding(
            "durability",
            WARNING,
            f"synchronous_commit is {commit} for {patient.role}: our sessions set it for themselves, so "
            "messages and results are safe; what the application commits beside them is not",
            f"ALTER ROLE {identifier(patient.role)} RESET synchronous_commit;",
            figures,
        )
    if standbys and sees and not present:
        found = True
        yield Finding(
            "durability",
            PROBLEM,
            f"no synchronous standby is there (synchronous_standby_names is {standbys!r}): every commit "
            "waits for one",
            "start the standby, or ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf();",
            figures,
        )
    if not found:
        yield Finding("durability", OK, "what is committed survives a crash of the server", figures=figures)
