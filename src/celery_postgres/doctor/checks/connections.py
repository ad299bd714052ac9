"""How many more connections there may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.doctor.finding import OK, WARNING, Finding
from celery_postgres.rights import identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.doctor.patient import Patient

#: A worker opens five in its main process, see docs/operations.md.
_LEFT_AT_LEAST = 5

# Of another role's session we are told the role, and its kind only as a member of pg_read_all_stats.
_USED = """SELECT current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true), '0')::int,
       count(*),
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
       count(*) FILTER (WHERE usename = current_user),
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
       count(*) FILTER (WHERE datname = current_database())
  FROM pg_stat_activity
 WHERE backend_type = 'client backend' OR backend_type IS NULL AND usesysid IS NOT NULL"""


def check(patient: Patient) -> Iterator[Finding]:
    """Of the server, of the role and of the database; ours are among those that are used."""
    slots, used, of_role, by_role, of_database, in_database = patient.row(_USED)
    role, database = identifier(patient.role), identifier(patient.server.database)
    limits = [("the server", slots, used, f"ALTER SYSTEM SET max_connections = {2 * slots}; and restart")]
    if of_role >= 0:
        limits.append(("the role", of_role, by_role, f"ALTER ROLE {role} CONNECTION LIMIT {2 * of_role};"))
    if of_database >= 0:
        raise_it = f"ALTER DATABASE {database} CONNECTION LIMIT {2 * of_database};"
        limits.append(("the database", of_database, in_database, raise_it))
    short = False
    for whose, most, taken, remedy in limits:
        figures = {"limit": most, "used": taken}
        if most - taken < max(_LEFT_AT_LEAST, most // 10):
            short = True
            yield Finding(
                "connections",
                WARNING,
                f"{taken} of {most} connections of {whose} are used: a worker needs five and one for each "
                "process of its pool",
                f"{remedy} or run fewer processes",
                figures,
            )
    if not short:
        yield Finding(
            "connections",
            OK,
            f"{used} of {slots} are used",
            figures={"limit": slots, "used": used},
        )
