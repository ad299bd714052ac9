"""The application's own connection: whether it may carry messages, and what holds in it."""

from __future__ import annotations

import re

from . import Statement
from .messages import COMMITS

#: One row of texts: the server and the database, its name, the role, and when the transaction began.
#: The first is the same in all sessions of one database and in no other.
FACTS = Statement(
    "enlistment_facts",
    """SELECT extract(epoch FROM pg_postmaster_start_time())::text || ' '
           || (SELECT oid FROM pg_database WHERE datname = current_database())::text,
       current_database()::text, current_user::text, now()::text""",
)

#: The same as before in one transaction, and another for each statement outside of one.
BEGAN = Statement("enlistment_began", "SELECT now()::text")

# What the application wants of its commit is not made less by a message that wants less.
_COMMITS_HERE = COMMITS.replace(
    "$14::text",
    "CASE current_setting('synchronous_commit') WHEN 'off' THEN $14::text"
    " ELSE current_setting('synchronous_commit') END",
)


def pyformat(statement: Statement, schema: str) -> str:
    """A statement for the application's transaction, its parameters named p1, p2, … as DB-API drivers do."""
    text = statement.sql(schema).replace(COMMITS, _COMMITS_HERE)
    return re.sub(r"\$(\d+)", r"%(p\1)s", text.replace("%", "%%"))
