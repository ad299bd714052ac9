"""Dead rows and statistics of our tables: whether autovacuum keeps up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.doctor.finding import OK, PROBLEM, WARNING, Finding
from celery_postgres.rights import identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.doctor.patient import Patient

#: So many times as many as autovacuum waits for, and at least so many, before it is behind.
_BEHIND, _AT_LEAST = 3, 10_000
_LARGE = 10_000

# What autovacuum waits for is the table's own setting or the server's.
_TABLES = """SELECT c.relname::text, s.n_live_tup, s.n_dead_tup,
       extract(epoch FROM now() - greatest(s.last_vacuum, s.last_autovacuum))::float8,
       coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions)
                  WHERE option_name = 'autovacuum_vacuum_threshold'),
                current_setting('autovacuum_vacuum_threshold'))::float8
       + coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions)
                    WHERE option_name = 'autovacuum_vacuum_scale_factor'),
                  current_setting('autovacuum_vacuum_scale_factor'))::float8 * greatest(c.reltuples, 0),
       s.last_analyze IS NULL AND s.last_autoanalyze IS NULL,
       pg_total_relation_size(c.oid),
       coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions)
                  WHERE option_name = 'autovacuum_enabled'), 'true')::boolean
  FROM pg_class c JOIN pg_stat_all_tables s ON s.relid = c.oid
 WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s) AND c.relkind = 'r'
 ORDER BY s.n_dead_tup DESC"""


def check(patient: Patient) -> Iterator[Finding]:
    found = False
    for name in ("autovacuum", "track_counts"):
        (value,) = patient.row("SELECT current_setting(%(name)s)", {"name": name})
        if value == "off":
            found = True
            yield Finding(
                "tables",
                PROBLEM,
                f"{name} is off: nobody removes dead rows, and claims become slower and slower",
                f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();",
            )
    all_dead = 0
    for name, live, dead, vacuumed_s, due, unknown, size, enabled in patient.rows(
        _TABLES, {"schema": patient.schema}
    ):
        all_dead += dead
        table = identifier(patient.schema, name)
        figures = {"table": name, "live": live, "dead": dead, "vacuumed_s": vacuumed_s, "bytes": size}
        if not enabled:
            found = True
            yield Finding(
                "tables",
                PROBLEM,
                f"autovacuum is switched off for {name}",
                f"ALTER TABLE {table} RESET (autovacuum_enabled);",
                figures,
            )
        if dead > max(_AT_LEAST, _BEHIND * due):
            found = True
            when = "never" if vacuumed_s is None else f"{vacuumed_s:.0f} s ago"
            yield Finding(
                "tables",
                WARNING,
                f"{name} has {dead} dead rows beside {live}, and was vacuumed {when}: autovacuum does not "
                "keep up, or somebody keeps the rows",
                f"look under snapshots for who keeps them, then VACUUM (ANALYZE) {table}; if autovacuum is "
                "busy elsewhere, raise autovacuum_max_workers",
                figures,
            )
        if unknown and live > _LARGE:
            found = True
            yield Finding(
                "tables",
                WARNING,
                f"{name} has {live} rows and no statistics, as after pg_upgrade: plans are guesses",
                f"ANALYZE {table};",
                figures,
            )
    if not found:
        yield Finding("tables", OK, f"{all_dead} dead rows, which autovacuum removes in time")
