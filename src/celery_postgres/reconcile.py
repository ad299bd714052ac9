"""Makes what the database says that we hold and what we know the same again, after a session was lost.

    in the database, not known        its claim was committed and the answer lost: it is taken in now
    there again, settled just now     a crash of the server undid the settlement: it is settled again
    known, not in the database        a crash undid the claim: claimed again if it is still as it was,
                                      else it is somebody else's and lost to us
                                      or: its settlement was committed and the answer lost

Runs before anything is claimed, on a session behind which no statement of the old one can commit any more.
So what we know does not change meanwhile, except that something of it may be settled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .messages import Claimed, read_claimed
from .sql import reconcile as sql

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeVar
    from uuid import UUID

    from .held import Held
    from .topology import Run

    T = TypeVar("T")

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
    adopted: int = 0
    """How many were claimed again."""
    repeated: int = 0
    """How many were settled again."""


def reconcile(run: Run, consumer_id: UUID, known: Sequence[Claimed], held: Held) -> Findings:
    """Compare with `unacked`; blocks for a few round trips. Doing it again does no harm.

    `known` is what the caller held when the old session ended; `held` tells what was settled last.
    """
    findings = Findings()
    rows = run((sql.LIST_HELD, (consumer_id,)))[0]
    present = {(rows.integer(row, 0), rows.integer(row, 1)) for row in range(rows.count)}
    ours = {(claimed.message_id, claimed.deliveries) for claimed in known}

    again = held.redo(present - ours, consumer_id)
    for call in again.values():
        run(call)
    findings.repeated = len(again)

    unknown = [message_id for message_id, _ in present - ours - again.keys()]
    for some in _slices(unknown, BODIES_AT_ONCE):
        findings.unknown += read_claimed(run((sql.READ_HELD, (consumer_id, some)))[0])

    absent = [claimed for claimed in known if (claimed.message_id, claimed.deliveries) not in present]
    adopted: set[int] = set()
    for missing in _slices(absent, AT_ONCE):
        adopted |= _adopt(run, consumer_id, missing)
    findings.adopted = len(adopted)
    findings.lost = [claimed for claimed in absent if claimed.message_id not in adopted]
    return findings


def _adopt(run: Run, consumer_id: UUID, missing: Sequence[Claimed]) -> set[int]:
    values = (
        consumer_id,
        [claimed.message_id for claimed in missing],
        [claimed.queue_id for claimed in missing],
        [claimed.priority for claimed in missing],
        [claimed.deliveries for claimed in missing],
    )
    rows = run((sql.ADOPT, values))[0]
    return {rows.integer(row, 0) for row in range(rows.count)}


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
