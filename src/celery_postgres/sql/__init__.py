"""Every statement that the package runs after set-up, by what it is about.

A statement is text with `{s}` for the quoted schema. Above each stands: the index it uses, the rows it
locks and in which order, and what a second session doing the same sees. Lock order everywhere: the state
row (`ready`, `unacked`, `delayed`), then the message.

Values are parameters, never text; the schema is the only identifier that comes from outside, and it is
checked by `options.py`. A row-limited DELETE goes by `ctid = ANY (ARRAY (SELECT … LIMIT))`: it stays a
tid scan under a generic plan, where `DELETE … USING` was seen to become a sequential scan.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Statement:
    """One statement; `name` is also its name as a prepared statement."""

    name: str
    text: str

    def sql(self, schema: str) -> str:
        """The text for a schema whose name needs no escaping but quoting."""
        return self.text.replace("{s}", f'"{schema}"')


# Names of ours are qualified; functions, operators and types are the server's. They are looked for along the
# path of the role or the database, and temporary types before all else, unless the path says otherwise. A
# session of ours says so once; where the session is another's too, or is not ours yet, each transaction does.
#: Sent in front of a batch.
AT_HOME = Statement("at_home", "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)")
