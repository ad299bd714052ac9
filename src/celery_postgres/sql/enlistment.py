"""The application's own connection: whether it may carry messages, and what holds in it."""

from __future__ import annotations

import re

from . import Statement
from .messages import COMMITS

#: One row of texts: the server and the database, its name, and the role. The first is the same in all
#: sessions of one database and in no other.
FACTS = Statement(
    "enlistment_facts",
    """SELECT extract(epoch FROM pg_postmaster_start_time())::text || ' '
           || (SELECT oid FROM pg_database WHERE datname = current_database())::text,
       current_database()::text, current_user::text""",
)

#: The same twice in one transaction, and another for each statement outside of one.
BEGAN = Statement("enlistment_began", "SELECT pg_catalog.now()::text")

ISOLATION = Statement("enlistment_isolation", "SELECT current_setting('transaction_isolation')")

# What the application wants of its commit is not made less by a message that wants less.
_COMMITS_HERE = COMMITS.replace(
    "$14::text",
    "CASE current_setting('synchronous_commit') WHEN 'off' THEN $14::text"
    " ELSE current_setting('synchronous_commit') END",
)

# `now()` is when the application's transaction began, perhaps long ago: a message lives from its publish.
_REPLACED = (
    (COMMITS, _COMMITS_HERE),
    (" now()", " clock_timestamp()"),
    (".message (uuid,", ".message (enqueued_at, uuid,"),
    ("SELECT $1::uuid, id,", "SELECT clock_timestamp(), $1::uuid, id,"),
)


def pyformat(statement: Statement, schema: str) -> str:
    """A statement for the application's transaction, its parameters named p1, p2, … as DB-API drivers do."""
    text = statement.sql(schema)
    for ours, here in _REPLACED:
        text = text.replace(ours, here)
    return re.sub(r"\$(\d+)", r"%(p\1)s", text.replace("%", "%%"))
