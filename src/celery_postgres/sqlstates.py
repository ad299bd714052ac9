"""What is done about each error of the server: one table, by SQLSTATE, for everything that talks to it.

A code is judged by the longest entry that it begins with; what no entry begins goes to the caller.
`python -m celery_postgres.sqlstates` prints the table of the documentation in Markdown.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum

__all__ = ["TABLE", "Reaction", "Rule", "reaction"]


class Reaction(Enum):
    """What to do, in words of the documentation."""

    RETRY = "again at once, up to 5 times"
    """Nothing was done, and another attempt may meet nobody. With jitter, or the same two meet again."""
    BACK_OFF = "again after a pause that grows to 10 s"
    """Nothing was done and there is no room for more: whoever insists makes it worse."""
    RECONNECT = "a new session; the outcome is unknown"
    """This session is over, or leads to the wrong server."""
    UNPREPARE = "a new session, in which nothing is prepared"
    """Something between us and the server does not keep what a session prepares."""
    GIVE = "given to the caller"
    """The same statement would be refused again."""
    STOP = "given to the caller, with the command that helps"
    """A matter of configuration: no attempt helps before somebody has changed it."""


@dataclass(frozen=True)
class Rule:
    """One row: which codes, what they say, what is done."""

    codes: tuple[str, ...]
    """Five characters, or the first of them."""
    meaning: str
    reaction: Reaction


TABLE = (
    Rule(("08",), "the connection is lost", Reaction.RECONNECT),
    Rule(
        ("57P01", "57P02", "57P03"),
        "the server shuts down, has crashed or is starting; the session was terminated",
        Reaction.RECONNECT,
    ),
    Rule(("57P04", "57P05"), "the database was dropped; idle_session_timeout", Reaction.RECONNECT),
    Rule(("25006",), "the server only reads: a standby, or a primary that was demoted", Reaction.RECONNECT),
    Rule(("25",), "the transaction is in a state that is not ours, or was open too long", Reaction.RECONNECT),
    Rule(("40003",), "nobody knows whether the statement was completed", Reaction.RECONNECT),
    Rule(
        ("26000", "42P05", "0A000"),
        "a prepared statement is missing, is another client's, or has become outdated",
        Reaction.UNPREPARE,
    ),
    Rule(("40001", "40P01"), "serialization failure, deadlock", Reaction.RETRY),
    Rule(("55P03", "57014"), "lock_timeout, statement_timeout or a cancel", Reaction.RETRY),
    Rule(("53",), "no connection slot, disk full, out of memory, a limit reached", Reaction.BACK_OFF),
    Rule(("58",), "an input or output error of the server", Reaction.BACK_OFF),
    Rule(("42501",), "a right is missing", Reaction.STOP),
    Rule(
        ("42P01", "42703", "42883", "3F000"),
        "a table, a column, a function or the schema is missing",
        Reaction.STOP,
    ),
    Rule(("28", "3D000"), "the role or the database does not let us in", Reaction.STOP),
    Rule(("22", "54"), "a value that cannot be stored: refused when it is published", Reaction.GIVE),
    Rule(("23", "P0"), "a constraint, or a trigger of somebody else's", Reaction.GIVE),
    Rule(("XX",), "an internal error of the server, or damaged data", Reaction.GIVE),
)

_BY_CODE = {code: rule.reaction for rule in TABLE for code in rule.codes}


def reaction(sqlstate: str | None) -> Reaction:
    """What is done about an error with this code."""
    code = sqlstate or ""
    for length in range(len(code), 1, -1):
        found = _BY_CODE.get(code[:length])
        if found is not None:
            return found
    return Reaction.GIVE


def _markdown() -> str:
    rows = ["| SQLSTATE | says | is met by |", "|---|---|---|"]
    rows += (
        f"| {', '.join(f'`{code}`' if len(code) == 5 else f'`{code}…`' for code in rule.codes)} "
        f"| {rule.meaning} | {rule.reaction.value} |"
        for rule in TABLE
    )
    rows.append(f"| any other |  | {Reaction.GIVE.value} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(_markdown() + "\n")
