"""Makes what the database says that we hold and what we know the same again, after a session was lost.

    in the database, not known        its claim was committed and the answer lost: it is taken in now
    there again, settled just now     a crash of the server undid the settlement: it is settled again
    ready, acknowledged just now      a crash undid the claim as well: it is acknowledged again, unless
                                      another was quicker
    known, not in the database        a crash undid the claim: claimed again if it is still as it was,
                                      else it is somebody else's and lost to us
                                      or: its settlement was committed and the answer lost

Runs before anything is claimed, on a session behind which no statement of the old one can commit any more.
So what we know does not change meanwhile, except that something of it may be settled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .messages import Claimed, Key, read_claimed
from .sql import reconcile as sql
from .sql.messages import ACK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeVar
    from uuid import UUID

    from .encoding import Rows
    from .held import Settlement
    from .sql import Statement
    from .topology import Run
    from .wire import Call

    T = TypeVar("T")

    Message = tuple[int, int | None]
    """Its number, and when it was enqueued."""

#: How many messages one statement looks for, or brings.
AT_ONCE = 500
#: Of bodies fewer come at once, for they may be large.
BODIES_AT_ONCE = 50


@dataclass
class Findings:
    """What a reconciliation found, beside what it has put right in the database."""

    unknown: list[Claimed] = field(default_factory=list)
    """Ours, and nobody here knows of them."""
    lost: list[Claimed] = field(default_factory=list)
    """Not ours, or no more."""
    taken: list[Claimed] = field(default_factory=list)
    """Those of them that another consumer has, since a crash undid our claim; at last also those it had."""
    overtaken: dict[Key, str | None] = field(default_factory=dict)
    """Acknowledged by us, brought back by a crash, and then claimed by another; with their tasks."""
    finished: dict[Key, str | None] = field(default_factory=dict)
    """Acknowledged again; with their tasks."""
    crashed: bool = False
    """Whether the server did not end in order, so that what it had not written yet is undone."""
    untraced: dict[Key, str | None] = field(default_factory=dict)
    """Acknowledged by us so shortly before a crash that it may have been undone, and gone; with their tasks.

    Should others have claimed and acknowledged them since, nothing in the database tells.
    """
    adopted: int = 0
    """How many were claimed again."""
    repeated: int = 0
    """How many were settled again."""


def reconcile(
    run: Run, consumer_id: UUID, known: Sequence[Claimed], settled: Sequence[Settlement]
) -> Findings:
    """Compare with `unacked`; blocks for a few round trips. Doing it again does no harm.

    `known` is what the caller held when the old session ended, `settled` what it had settled last.
    """
    findings = Findings()
    present = _keys(run((sql.LIST_HELD, (consumer_id,)))[0])
    ours = {claimed.key: claimed for claimed in known}
    absent = {key: ours[key] for key in ours.keys() - present}
    adopted = _claim_again(run, consumer_id, absent, findings)

    held = {key.message for key in ours}
    over = {key for key in _acknowledged(settled) if key.message not in held}
    finished = _finish(run, consumer_id, over, findings)

    strangers = {key for key in present - ours.keys() if key.message not in adopted | finished}
    again = _again(run, settled, strangers, consumer_id)
    findings.repeated = len(finished) + len(again)

    unknown = sorted(strangers - again, key=lambda key: (-key.priority, key.message_id))
    for some in _slices(unknown, BODIES_AT_ONCE):
        call = sql.READ_HELD, (consumer_id, [key.message_id for key in some])
        findings.unknown += read_claimed(run(call)[0])
    return findings


def _claim_again(run: Run, consumer_id: UUID, absent: dict[Key, Claimed], findings: Findings) -> set[Message]:
    """What is executed, or waits to be, is not given to anybody else, unless somebody has it already."""
    there = _stored(run, sql.ADOPT, consumer_id, list(absent))
    adopted = {key for key, (_, ours) in there.items() if ours}
    findings.adopted = len(adopted)
    findings.lost = [absent[key] for key in absent.keys() - adopted]
    findings.taken = [absent[key] for key in there.keys() - adopted]
    return {key.message for key in adopted}


def _finish(run: Run, consumer_id: UUID, over: set[Key], findings: Findings) -> set[Message]:
    """What was executed is not executed again."""
    there = _stored(run, sql.FINISH, consumer_id, list(over))
    findings.overtaken = {key: task for key, (task, gone) in there.items() if not gone}
    findings.finished = {key: task for key, (task, gone) in there.items() if gone}
    return {key.message for key in findings.finished}


def _acknowledged(settled: Iterable[Settlement]) -> list[Key]:
    """They are gone for good, unless a crash has brought them back."""
    return [key for settlement in settled if settlement.statement is ACK for key in settlement.keys]


def _again(run: Run, settled: Iterable[Settlement], wanted: set[Key], consumer_id: UUID) -> set[Key]:
    """Release or reject again those of them that were; returns these."""
    found: set[Key] = set()
    calls: list[Call] = []
    for settlement in settled if wanted else ():
        keys = [key for key in settlement.keys if key in wanted]
        if keys and settlement.statement is not ACK:
            found.update(keys)
            values = (consumer_id, [key.message_id for key in keys], [key.deliveries for key in keys])
            calls.append((settlement.statement, (*values, *settlement.rest)))
    if calls:
        run(*calls)
    return found


def _stored(
    run: Run, statement: Statement, consumer_id: UUID, keys: Sequence[Key]
) -> dict[Key, tuple[str | None, bool]]:
    """Those that are stored: with their tasks, and whether the statement had its way with them."""
    slices = list(_slices(keys, AT_ONCE))
    if not slices:
        return {}
    there: dict[Message, tuple[str | None, bool]] = {}
    calls = [(statement, (consumer_id, *map(list, zip(*some, strict=True)))) for some in slices]
    for rows in run(*calls):
        for row in range(rows.count):
            there[rows.integer(row, 0), rows.number(row, 1)] = rows.text(row, 2), rows.flag(row, 3)
    return {key: there[key.message] for key in keys if key.message in there}


def _keys(rows: Rows) -> set[Key]:
    return {
        Key(
            rows.integer(row, 0),
            rows.number(row, 1),
            rows.integer(row, 2),
            rows.integer(row, 3),
            rows.integer(row, 4),
        )
        for row in range(rows.count)
    }


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
