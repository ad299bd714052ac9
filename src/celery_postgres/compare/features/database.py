"""What only a broker in the application's database may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.compare import cast
from celery_postgres.compare.report.model import Ability
from celery_postgres.compare.trial import Trial

if TYPE_CHECKING:
    from celery_postgres.compare.arena import Arena
    from celery_postgres.compare.request import Request


def _in_sql(arena: Arena, request: Request) -> Ability:
    cast.dismiss(arena)
    id_ = arena.send("noop").id
    found = arena.place.query(id_)
    arena.purge()
    if found is None:
        return Ability(False, "no: there is no SQL to ask it by")
    statement, count = found
    if count != 1:
        return Ability(False, f"no: {statement} gave {count}, though one message waited")
    return Ability(True, f"yes: {statement} gave 1")


def _transactional(arena: Arena, request: Request) -> Ability:
    cast.dismiss(arena)
    transaction = arena.place.transaction()
    if transaction is None:
        return Ability(False, "no: the broker takes no part in a transaction of the application's database")
    with transaction:  # rolled back
        arena.send("noop")
    left = arena.waiting()
    arena.purge()
    if left:
        return Ability(
            False, "no: delay() commits by itself; the task was there after the application rolled back"
        )
    return Ability(True, f"yes, {arena.place.enlists}: the task was gone after the application rolled back")


IN_SQL = Trial(
    "in_sql",
    "Queue visible in SQL",
    "A task was sent, and the server asked for it by SQL.",
    0.5,
    _in_sql,
)

TRANSACTIONAL = Trial(
    "transactional",
    "Transactional enqueue",
    "A task was sent by delay() inside a transaction of the application's on the same database, which was "
    "rolled back; by whatever way the transport has for that.",
    0.5,
    _transactional,
)
