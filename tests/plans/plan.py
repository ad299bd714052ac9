"""How the server carries out our statements, and what each may cost."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from celery_postgres import dsn, schema
from celery_postgres.connection import Database
from celery_postgres.options import Options
from celery_postgres.sql import Statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celery_postgres.wire import Session

#: Grow with the backlog; whatever reads one of them whole gets slower with it.
BIG = frozenset(
    {"message", "ready", "unacked", "delayed", "dead_letter", "published"}
    | {"result", "group_result", "chord", "chord_part"}
)

#: What one statement handles at once; more rows are a backlog.
A_PAGE = 600

STAGES = ("empty", "filled since", "analysed")

_numbers = itertools.count(1)

BEGIN, ROLLBACK = Statement("begin", "BEGIN"), Statement("rollback", "ROLLBACK")


@dataclass(frozen=True)
class Case:
    """One statement with values, and what it may cost on the long backlog."""

    statement: Statement
    values: tuple[object, ...]
    buffers: int
    what: str = ""
    whole: frozenset[str] = frozenset()
    """Tables that may be read whole, since it is rare and there is no other way."""
    rows: int = 100
    """How many rows of a table it may look at."""

    @property
    def id(self) -> str:
        return f"{self.statement.name} {self.what}".strip()


class Plan:
    """One execution, with what it really read."""

    def __init__(self, explained: dict[str, Any]) -> None:
        self._root = explained["Plan"]
        self.milliseconds: float = explained["Execution Time"]

    def nodes(self, node: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """The nodes that were executed."""
        node = node or self._root
        if node["Actual Loops"]:
            yield node
        for child in node.get("Plans", ()):
            yield from self.nodes(child)

    @property
    def buffers(self) -> int:
        """How many times a page of a table or of an index was looked at."""
        nodes = list(self.nodes())
        named = {node["CTE Name"] for node in nodes if "CTE Name" in node}
        # A data-modifying part that nobody reads is executed after the rest, and not counted with it.
        after = [n for n in nodes if n.get("Subplan Name", "").startswith("CTE ")]
        after = [n for n in after if n["Subplan Name"].removeprefix("CTE ") not in named]
        return sum(n["Shared Hit Blocks"] + n["Shared Read Blocks"] for n in [self._root, *after])

    @property
    def read_whole(self) -> set[str]:
        """Tables of the backlog that were read from one end to the other."""
        scans = (node["Relation Name"] for node in self.nodes() if node["Node Type"] == "Seq Scan")
        return BIG & set(scans)

    @property
    def sorted_rows(self) -> int:
        """The most rows that one sort had to take in."""
        sorts = [node for node in self.nodes() if node["Node Type"].endswith("Sort")]
        return max((_rows(child) for node in sorts for child in node["Plans"]), default=0)

    @property
    def scanned_rows(self) -> int:
        """The most rows that one scan of a table of the backlog returned or threw away."""
        return max((_rows(node) for node in self.nodes() if node.get("Relation Name") in BIG), default=0)

    def __repr__(self) -> str:
        """For the report of a failure."""

        def lines(node: dict[str, Any], depth: int) -> Iterator[str]:
            where = node.get("Index Name") or node.get("Relation Name") or node.get("CTE Name") or ""
            condition = node.get("Index Cond") or node.get("TID Cond") or node.get("Filter") or ""
            yield (
                f"{'  ' * depth}{node.get('Subplan Name', '')} {node['Node Type']} {where} {condition} "
                f"rows={node['Actual Rows']:g} loops={node['Actual Loops']} "
                f"buffers={node['Shared Hit Blocks'] + node['Shared Read Blocks']}"
            )
            for child in node.get("Plans", ()):
                yield from lines(child, depth + 1)

        return "\n".join([f"{self.milliseconds:.1f} ms, {self.buffers} buffers", *lines(self._root, 0)])


def _rows(node: dict[str, Any]) -> int:
    thrown_away = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
    return int((node["Actual Rows"] + thrown_away) * node["Actual Loops"])


def explain(session: Session, statement: Statement, values: Sequence[object]) -> Plan:
    """Execute the statement as the session prepared it; nothing of it stays.

    A plan that the session has made before is used again.
    """
    arguments = ", ".join(_literal(value) for value in values)
    explaining = Statement(
        f"explain_{next(_numbers)}",
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {statement.name}"
        + (f" ({arguments})" if arguments else ""),
    )
    session.run((BEGIN, ()))
    try:
        session.run((statement, values))
        session.run((ROLLBACK, ()))
        session.run((BEGIN, ()))
        return Plan(json.loads(session.run((explaining, ()))[0].text(0, 0) or "")[0])
    finally:
        session.run((ROLLBACK, ()))


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'"
    if isinstance(value, list):
        return "'{" + ",".join(f'"{item}"' if isinstance(item, str) else str(item) for item in value) + "}'"
    return f"'{value}'"


def at_every_stage(
    url: str, cases: Sequence[Case], *, before: str, backlog: str
) -> Iterator[dict[tuple[str, str], Plan]]:
    """Every case at every stage, all in one session: planned over `before`, then filled, then analysed."""
    target = dsn.parse(url)
    schema.upgrade(target, "celery")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(before.encode())
        session, _ = Database(target, Options()).open()

        def look(stage: str) -> dict[tuple[str, str], Plan]:
            return {(stage, case.id): explain(session, case.statement, case.values) for case in cases}

        found = look("empty")
        connection.execute(backlog.encode())
        found |= look("filled since")
        connection.execute("ANALYZE")
        found |= look("analysed")
        yield found
        session.close()


def check(plan: Plan, case: Case) -> None:
    """No table is read whole, no backlog is sorted, and few pages and rows are looked at."""
    assert plan.read_whole <= case.whole, plan
    assert plan.sorted_rows <= A_PAGE, plan
    assert plan.scanned_rows <= case.rows, plan
    assert plan.buffers <= case.buffers, plan
