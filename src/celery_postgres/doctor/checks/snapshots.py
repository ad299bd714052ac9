"""Who keeps dead rows from being removed: open transactions, prepared ones, replication slots.

As long as somebody may still want to see a row that was deleted, it stays: the tables grow, and whoever looks
through a queue from its beginning steps over it.
Transactions count only in this database, slots and standbys in all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from celery_postgres.doctor.finding import OK, PROBLEM, WARNING, Finding
from celery_postgres.rights import identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.doctor.patient import Patient

#: From so many seconds on it is a problem whatever the patience is.
_SERIOUS_S = 3600.0

# A plain VACUUM has a snapshot, and the server does not count it: it keeps nothing.
_SESSIONS = """SELECT pid, usename::text, application_name, state,
       extract(epoch FROM now() - xact_start)::float8, left(query, 200),
       greatest(age(backend_xmin), age(backend_xid))
  FROM pg_stat_activity a
 WHERE (datname = current_database() OR datname IS NULL) AND pid <> pg_backend_pid()
   AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
   AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
   AND xact_start < now() - %(patience)s * interval '1 s'
 ORDER BY xact_start"""

# Of other roles' sessions a role sees only that they are there.
_HIDDEN = """SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND query = '<insufficient privilege>'"""

_PREPARED = """SELECT gid, owner::text, extract(epoch FROM now() - prepared)::float8, age(transaction)
  FROM pg_prepared_xacts
 WHERE database = current_database() AND prepared < now() - %(patience)s * interval '1 s'
 ORDER BY prepared"""

_SLOTS = """SELECT slot_name::text, slot_type, active, greatest(age(xmin), age(catalog_xmin)),
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint
  FROM pg_replication_slots
 WHERE NOT active OR age(xmin) > 1000000
 ORDER BY slot_name"""


def check(patient: Patient) -> Iterator[Finding]:
    found = False
    for finding in (*_sessions(patient), *_prepared(patient), *_slots(patient)):
        found = True
        yield finding
    (hidden,) = patient.row(_HIDDEN)
    if hidden:
        yield Finding(
            "snapshots",
            OK,
            f"of {hidden} sessions of other roles {patient.role} sees no transaction",
            f"GRANT pg_read_all_stats TO {identifier(patient.role)};",
            {"hidden": hidden},
        )
    elif not found:
        yield Finding("snapshots", OK, f"nobody keeps dead rows for longer than {patient.patience_s:g} s")


def _sessions(patient: Patient) -> Iterator[Finding]:
    for pid, role, application, state, open_s, query, age in patient.rows(
        _SESSIONS, {"patience": patient.patience_s}
    ):
        idle = str(state).startswith("idle in transaction")
        remedy = (
            f"SELECT pg_terminate_backend({pid}); and for the future ALTER ROLE {identifier(role or '')} SET "
            "idle_in_transaction_session_timeout = '1min';"
            if idle
            else f"let it end, or SELECT pg_cancel_backend({pid});"
        )
        yield Finding(
            "snapshots",
            _severity(open_s),
            f"process {pid} ({role or 'no role'}, {application or 'no application_name'}, {state}) has a "
            f"transaction open for {open_s:.0f} s, which keeps all rows deleted since; its last query: "
            f"{query!r}",
            remedy,
            {"pid": pid, "role": role, "state": state, "open_s": open_s, "age_xids": age, "query": query},
        )


def _prepared(patient: Patient) -> Iterator[Finding]:
    for gid, owner, open_s, age in patient.rows(_PREPARED, {"patience": patient.patience_s}):
        yield Finding(
            "snapshots",
            _severity(open_s),
            f"the prepared transaction {gid!r} of {owner} waits for {open_s:.0f} s for its end, which keeps "
            "all rows deleted since, also over a restart",
            f"COMMIT PREPARED {_literal(gid)}; or ROLLBACK PREPARED {_literal(gid)};",
            {"gid": gid, "role": owner, "open_s": open_s, "age_xids": age},
        )


def _slots(patient: Patient) -> Iterator[Finding]:
    for name, kind, active, age, kept in patient.rows(_SLOTS):
        held = f"{age} transactions and " if age else ""
        yield Finding(
            "snapshots",
            WARNING,
            f"the {kind} replication slot {name!r} {'lags' if active else 'has nobody who reads it'}: it "
            f"holds back {held}{(kept or 0) / 2**20:.0f} MiB of log",
            "start who reads it, or, if nobody will, SELECT pg_drop_replication_slot("
            f"{_literal(name)}); and limit them by max_slot_wal_keep_size",
            {"slot": name, "active": active, "age_xids": age, "kept_bytes": kept},
        )


def _severity(open_s: float) -> str:
    return PROBLEM if open_s >= _SERIOUS_S else WARNING


def _literal(value: Any) -> str:
    return sql.Literal(value).as_string()
