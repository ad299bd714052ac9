"""Makes what the database says that we hold and what we know the same again, after a session was lost.

    in the database, not known        its claim was committed and the answer lost: it is taken in now
    there again, settled just now     a crash of the server undid the settlement: it is settled again
    ready, acknowledged just now      a crash undid the claim as well: it is claimed and settled again,
                                      unless another was quicker
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

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeVar
    from uuid import UUID

    from .encoding import Rows
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
    overtaken: list[int] = field(default_factory=list)
    """Acknowledged by us, brought back by a crash, and claimed by another before we came: their ids."""
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

    absent = [claimed for claimed in known if (claimed.message_id, claimed.deliveries) not in present]
    adopted = _adopt(run, consumer_id, [claimed.key for claimed in absent])
    findings.adopted = len(adopted)
    findings.lost = [claimed for claimed in absent if claimed.message_id not in adopted]

    here = present | ours
    over = [key for key in held.acknowledged() if (key.message_id, key.deliveries) not in here]
    back = _adopt(run, consumer_id, over)
    back_again = {(key.message_id, key.deliveries) for key in over if key.message_id in back}
    findings.overtaken = _stored(run, [key for key in over if key.message_id not in back])

    again = held.redo((present - ours) | back_again, consumer_id)
    for calls in _slices([call for _, call in again], AT_ONCE):
        run(*calls)
    repeated = {(key.message_id, key.deliveries) for keys, _ in again for key in keys}
    findings.repeated = len(repeated)

    unknown = [message_id for message_id, _ in present - ours - repeated]
    for some in _slices(unknown, BODIES_AT_ONCE):
        findings.unknown += read_claimed(run((sql.READ_HELD, (consumer_id, some)))[0])
    return findings


def _adopt(run: Run, consumer_id: UUID, missing: Sequence[Key]) -> set[int]:
    """Claim again what a crash has put back; returns the ids."""
    adopted: set[int] = set()
    for keys in _slices(missing, AT_ONCE):
        values = (
            consumer_id,
            [key.message_id for key in keys],
            [key.queue_id for key in keys],
            [key.priority for key in keys],
            [key.deliveries for key in keys],
            [key.enqueued_at for key in keys],
        )
        adopted |= _ids(run((sql.ADOPT, values))[0])
    return adopted


def _stored(run: Run, keys: Sequence[Key]) -> list[int]:
    """The ids of those that are there."""
    found: set[int] = set()
    for some in _slices(keys, AT_ONCE):
        values = [key.message_id for key in some], [key.enqueued_at for key in some]
        found |= _ids(run((sql.FIND_STORED, values))[0])
    return sorted(found)


def _ids(rows: Rows) -> set[int]:
    return {rows.integer(row, 0) for row in range(rows.count)}


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
