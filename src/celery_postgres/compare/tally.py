"""What became of tasks: how many were lost, how many ran twice, and when they came to their ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .notes import Event, key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .arena import Arena


@dataclass(frozen=True)
class Tally:
    """Counted by the notes of the workers."""

    lost: int
    """Neither ran to their end, nor does the broker say that it still has them."""
    kept: int
    """Have not run to their end, but the broker still has them for later."""
    duplicated: int
    """Ran to their end more than once."""
    timeline: list[tuple[float, int]]
    """As in `Behaviour`."""


def tally(arena: Arena, ids: Iterable[str], fault_s: float) -> Tally:
    """Of these tasks, with the fault at that time of the monotonic clock."""
    names = {key(id_): id_ for id_ in ids}
    notes = [note for note in arena.notes.of(Event.SUCCEEDED) if note.key in names]
    times = Counter(names[note.key] for note in notes)
    missing = [id_ for id_ in names.values() if not times[id_]]
    kept = (arena.place.keeps(missing) or set()) if missing else set()
    seen: set[bytes] = set()
    timeline = []
    for note in sorted(notes, key=lambda note: note.at_ns):
        seen.add(note.key)
        timeline.append((round(note.at_ns / 1e9 - fault_s, 3), len(seen)))
    return Tally(
        len(missing) - len(kept), len(kept), sum(1 for count in times.values() if count > 1), timeline
    )
