"""For which purposes the rights of the role suffice, and whether others have some they should not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.doctor.finding import OK, PROBLEM, WARNING, Finding
from celery_postgres.purposes import PURPOSES, SEQUENCES
from celery_postgres.rights import grants_for, identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.doctor.patient import Patient
    from celery_postgres.purposes import Purpose

# A table that is not there is told of by the check of the schema.
_LACKING = """SELECT w.object, w.verb FROM unnest(%(objects)s::text[], %(verbs)s::text[], %(columns)s::text[])
       AS w (object, verb, of)
  JOIN pg_class c ON c.relname = w.object
   AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)
 WHERE NOT CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, w.verb)
                WHEN w.of = '' THEN has_table_privilege(c.oid, w.verb)
                WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = w.of)
                THEN has_column_privilege(c.oid, w.of, w.verb)
                ELSE true END
 GROUP BY w.object, w.verb ORDER BY w.object, w.verb"""

_PUBLIC = """SELECT c.relname::text FROM pg_class c CROSS JOIN aclexplode(c.relacl) a
 WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s) AND a.grantee = 0
 GROUP BY c.relname ORDER BY c.relname"""

_USAGE = "SELECT has_schema_privilege(%(schema)s, 'USAGE')"


def check(patient: Patient) -> Iterator[Finding]:
    lacking = {name: _lacking(patient, purpose) for name, purpose in PURPOSES.items()}
    complete = [name for name, missing in lacking.items() if not missing]
    figures = {"suffice_for": complete}
    wanted = [name for name in patient.needs if lacking[name]]
    if not patient.needs and not complete:
        wanted = [min(lacking, key=lambda name: len(lacking[name]))]
    for name in wanted:
        yield Finding(
            "rights",
            PROBLEM,
            f"{patient.role} lacks for a {name}: {', '.join(lacking[name])}",
            " ".join(grants_for(PURPOSES[name], patient.schema, patient.role)),
            {**figures, "purpose": name, "lacking": lacking[name]},
        )
    if not wanted:
        yield Finding(
            "rights", OK, f"those of {patient.role} suffice for: {', '.join(complete)}", figures=figures
        )
    public = [name for (name,) in patient.rows(_PUBLIC, {"schema": patient.schema})]
    if public:
        named = ", ".join(identifier(patient.schema, name) for name in public)
        yield Finding(
            "rights",
            WARNING,
            f"everybody who may connect has rights on {', '.join(public)}",
            f"REVOKE ALL ON {named} FROM PUBLIC;",
            {"public": public},
        )


def _lacking(patient: Patient, purpose: Purpose) -> list[str]:
    """What is missing, as people would say it."""
    (usage,) = patient.row(_USAGE, {"schema": patient.schema})
    if not usage:
        return [f"USAGE on the schema {patient.schema}"]
    wanted = [
        (name, verb, column)
        for name, privileges in purpose.needs.items()
        for verb, columns in privileges.items()
        for column in columns or ("",)
    ]
    objects, verbs, columns = zip(*wanted, strict=True)
    rows = patient.rows(
        _LACKING,
        {"objects": list(objects), "verbs": list(verbs), "columns": list(columns), "schema": patient.schema},
    )
    return [f"{verb} on {'sequence ' if name in SEQUENCES else ''}{name}" for name, verb in rows]
