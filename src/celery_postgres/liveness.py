"""Who consumes: incarnations, and the signs of life that each one gives.

A claim belongs to an incarnation, never to a clock. It lives as long as its row, and shows that by two
advisory locks, which the server frees with their sessions: one of the session that claims, one of the
session that beats. A killed session leaves the other, a killed process leaves none. Behind a pooler, which
keeps no session, the beat alone speaks. Who judges by these signs is the `Reaper`.

A row that is gone is how an incarnation learns that its messages were given to others: it can claim nothing
any more, and its acknowledgements match nothing.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .process import Process, this_process
from .sql import consumers as sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .encoding import Rows
    from .topology import Run
    from .wire import Call

#: How many sessions are remembered that the server may still believe in; its keepalives end older ones.
BACKENDS = 10

#: A process that runs tasks itself may hold on to the interpreter, and then its beat waits, too.
OWN_TASKS_FACTOR = 5


@dataclass(frozen=True)
class Role:
    """What a consuming process is in Celery's eyes; nothing is known of one that is no worker."""

    node: str | None = None
    pool: str | None = None

    @property
    def runs_tasks(self) -> bool:
        """Whether tasks may run in the very process that consumes."""
        return self.pool != "prefork"


class Life(NamedTuple):
    """One of the server's lives, which end when it is stopped, crashes or is replaced by a standby."""

    name: str | None
    in_order: bool
    """False if the one before it did not end in order: what it had not written yet is undone."""
    known: bool
    """Whether the consumer is known in it; else it was declared dead, and others have its messages."""


class Incarnation:
    """One consuming connection of one process, for as long as it lives."""

    def __init__(self, role: Role | None = None) -> None:
        self.id = uuid.uuid4()
        self.role = role or Role()
        self.crowd = 1
        """How many consumers there are as far as is known: `maintenance.py` tells, which looks after them."""
        self.life: str | None = None
        """The name of the server's life in which both sides agreed last on what it holds."""
        self.lock_key = int.from_bytes(self.id.bytes[:8], "big", signed=True)
        self.beat_key = int.from_bytes(self.id.bytes[8:], "big", signed=True)

    def register(self, *, pooled: bool, stall_timeout: float = 60.0) -> list[Call]:
        """The calls that make it known, for one batch of the session that claims.

        They wait for the disk: a crash must not take away who it is while its claims are kept.
        Give the answer to `registered`.
        """
        process, role = this_process(), self.role
        stall_ms = round(stall_timeout * 1000) * (OWN_TASKS_FACTOR if role.runs_tasks else 1)
        values = (
            self.id,
            self.lock_key,
            self.beat_key,
            pooled,
            process.host,
            process.pid,
            process.host_id,
            process.started,
            role.node,
            role.pool,
            stall_ms,
        )
        calls: list[Call] = [(sql.BEGIN_EPOCH, ()), (sql.REGISTER, values)]
        if not pooled:
            calls.append((sql.HOLD, (self.lock_key,)))
        return calls

    def registered(self, results: Sequence[Rows]) -> None:
        """It is known from now on."""
        self.life = results[1].text(0, 0) if results[1].count else None

    def resume(self, key: int, lost: Iterable[int], *, pooled: bool) -> list[Call]:
        """The calls with which a new session takes the place of a lost one, for one batch of its own.

        `key` is that of the session: `lock_key` or `beat_key`; `lost` are the old ones' `backend_pid`, since
        one of several attempts may have got the lock and been lost before it was told. What the server still
        has of them is ended first, and has ended when the batch is done. Read the answer with `resumed`.
        """
        session: list[Call] = [(sql.END_HOLDER, (key, list(lost))), (sql.HOLD, (key,))]
        if pooled:
            session = [(sql.BEAT, (self.id,))]
        return [*session, (sql.BEGIN_EPOCH, ()), (sql.RESUME, (self.id, self.life))]

    @staticmethod
    def resumed(results: Sequence[Rows]) -> Life:
        """The server's present life."""
        rows = results[-1]
        return Life(rows.text(0, 0), in_order=rows.flag(0, 1), known=rows.flag(0, 2))

    def beat(self) -> Call:
        """A sign of life; without a row it was declared dead."""
        return sql.BEAT, (self.id,)

    def deregister(self) -> Call:
        return sql.DEREGISTER, (self.id,)


def read_process(rows: Rows, row: int, first: int = 0) -> Process:
    """From the columns that follow a consumer's id."""
    return Process(
        host=rows.text(row, first + 1) or "?",
        pid=rows.number(row, first + 2) or 0,
        host_id=rows.text(row, first + 3),
        started=rows.number(row, first + 4),
    )


def is_live(run: Run, consumer_id: uuid.UUID) -> bool:
    """Whether a consumer exists and shows signs of life, as far as can be told at once."""
    rows = run((sql.FIND_CONSUMER, (consumer_id,)))[0]
    return rows.count == 1 and rows.flag(0, 5) and not read_process(rows, 0).ended()
