"""Every table, view and sequence has been decided on, for every purpose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import celery_postgres
from celery_postgres.purposes import PURPOSES, SEQUENCES, TABLES, VIEWS, Purpose
from celery_postgres.rights import grants_for
from celery_postgres.tables import metadata

#: What may hold the arguments of a task, or what it returned.
PRIVATE = {
    ("message", "body"),
    ("message", "headers"),
    ("message", "properties"),
    ("broadcast", "body"),
    ("broadcast", "headers"),
    ("broadcast", "properties"),
    ("result", "meta"),
    ("result", "error"),
    ("group_result", "meta"),
    ("chord", "callback"),
    ("chord_part", "meta"),
}

MIGRATIONS = Path(celery_postgres.__file__).parent / "migrations" / "versions"
DDL = "\n".join(path.read_text() for path in MIGRATIONS.glob("v*.py"))


def columns() -> dict[str, set[str]]:
    tables = metadata("celery").tables.values()
    return {table.name: set(table.columns.keys()) for table in tables}


def test_tables_are_those_of_the_schema() -> None:
    """A new table is named in `purposes.py`, where it is decided who may see it."""
    assert set(TABLES) == {*columns(), "schema_version"}


def test_views_and_sequences_are_those_of_the_migrations() -> None:
    assert set(VIEWS) == set(re.findall(r"^CREATE(?: OR REPLACE)? VIEW \{+s\}+\.(\w+)", DDL, re.MULTILINE))
    assert set(SEQUENCES) == set(re.findall(r"^CREATE SEQUENCE \{+s\}+\.(\w+)", DDL, re.MULTILINE))


@pytest.mark.parametrize("purpose", PURPOSES.values(), ids=str)
def test_purpose_knows_every_object(purpose: Purpose) -> None:
    """Each has an entry, if only an empty one, and names no column that is not there."""
    assert set(purpose.needs) == {*TABLES, *VIEWS, *SEQUENCES}
    known = columns()
    unknown = [
        (table, column)
        for table, privileges in purpose.needs.items()
        for of in privileges.values()
        for column in of
        if column not in known[table]
    ]
    assert unknown == []


@pytest.mark.parametrize("name", ["producer", "monitor"])
def test_private_columns_are_not_granted(name: str) -> None:
    """Neither reads what a task is given; a producer reads what one returned, for which it waits."""
    purpose, known = PURPOSES[name], columns()
    seen = {
        (table, column)
        for table, privileges in purpose.needs.items()
        if "SELECT" in privileges and table in known
        for column in privileges["SELECT"] or known[table]
    }
    of_results = {pair for pair in PRIVATE if pair[0] not in ("message", "broadcast")}
    assert seen & (PRIVATE if name == "monitor" else PRIVATE - of_results) == set()


def test_monitor_only_reads() -> None:
    assert all(set(p) <= {"SELECT"} for p in PURPOSES["monitor"].needs.values())


@pytest.mark.parametrize("purpose", PURPOSES.values(), ids=str)
def test_no_right_to_change_a_table(purpose: Purpose) -> None:
    statements = " ".join(grants_for(purpose, "celery", "shop"))
    assert not re.search(r"\b(CREATE|TRUNCATE|REFERENCES|TRIGGER|ALL|GRANT OPTION)\b", statements)
