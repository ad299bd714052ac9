"""Errors that a real server raises where a test wants them."""

from __future__ import annotations

import psycopg
from psycopg import sql

ALWAYS = 1_000_000


class Fault:
    """A trigger that raises a chosen SQLSTATE at each of the next writes to one of our tables."""

    def __init__(self, url: str, table: str, event: str = "INSERT OR UPDATE") -> None:
        self._url = url
        self._event = sql.SQL(event)
        self._table = sql.Identifier("celery", table)

    def _run(self, statement: str, **parts: sql.Composable) -> list[tuple[int, ...]]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(statement).format(table=self._table, **parts))
            return cursor.fetchall() if cursor.description else []

    def raise_(self, code: str, times: int = ALWAYS) -> None:
        """From now on, so many times. A sequence counts, since a refused transaction leaves no row."""
        self.clear()
        self._run("CREATE SEQUENCE public.faults")
        self._run(
            """CREATE FUNCTION public.fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('public.faults') <= {times} THEN
        RAISE EXCEPTION 'raised by the test' USING ERRCODE = {code};
    END IF;
    RETURN coalesce(NEW, OLD);
END $$""",
            times=sql.Literal(times),
            code=sql.Literal(code),
        )
        self._run(
            "CREATE TRIGGER fault BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION public.fault()",
            event=self._event,
        )

    @property
    def attempts(self) -> int:
        """How many writes were tried since."""
        return self._run("SELECT last_value::int FROM public.faults WHERE is_called UNION ALL SELECT 0")[0][0]

    def clear(self) -> None:
        self._run("DROP TRIGGER IF EXISTS fault ON {table}")
        self._run("DROP FUNCTION IF EXISTS public.fault")
        self._run("DROP SEQUENCE IF EXISTS public.faults")
