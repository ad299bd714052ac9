"""Judges who is dead, and gives back what the dead one held.

| rule | what is seen | it is dead |
|---|---|---|
| gone | no session, and its process has ended on this host | at once |
| followed | no session, out of sight, and another of its name and host came after it | at once |
| A | no session | after `grace` |
| B | no session since the server was started anew, or promoted | after 30 s |
| C | a session, and a beat that stands still | after its `stall_timeout`, and the sessions are ended |
| D | behind a pooler, a beat that stands still | after 30 s |

Time is what this reaper has seen go by: it begins when the reaper first saw the sign, and stands still while
the reaper itself does. No clock of anybody else is asked, and a paused machine declares nobody dead.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING
from uuid import UUID

from .liveness import read_process
from .sql import consumers as sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .encoding import Rows
    from .options import Options
    from .process import Process
    from .topology import Run

_log = logging.getLogger(__name__)

#: Seconds. All sessions ended with the server, so it takes a while until everybody had its turn to reconnect.
RESTART_GRACE = 30.0
#: Behind a pooler; a beat comes every 10 s.
BEAT_GRACE = 30.0
#: The longest pause between two looks that counts as time; a crowd behind a pooler looks in turn.
_LONGEST_STEP = 10.0
#: At so many at once a network is likelier than so many deaths: then everybody gets `_CROWD_GRACE` longer.
_CROWD = 3
_CROWD_WINDOW = 10.0
_CROWD_GRACE = 5.0


class ObservedTime:
    """Seconds that were observed: a long gap, in which we may have stood still ourselves, counts little."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.now = 0.0
        self._clock = clock
        self._looked = clock()

    def look(self) -> float:
        now = self._clock()
        self.now += min(now - self._looked, _LONGEST_STEP)
        self._looked = now
        return self.now


@dataclass(frozen=True)
class Lost:
    """A consumer without a session."""

    id: str
    process: Process
    restarted: bool
    followed: bool

    def judge(self, grace: float) -> tuple[float, str]:
        """For how long it may be missing, and why."""
        if self.process.ended():
            return 0.0, "its process has ended"
        if self.restarted:
            return RESTART_GRACE, f"it did not return within {RESTART_GRACE:g} s of the server's new start"
        if self.followed and not self.process.visible:
            return 0.0, "a process of its name has taken its place"
        return grace, f"its sessions ended, and it did not return within {grace:g} s"


@dataclass(frozen=True)
class Beat:
    """A consumer by its beat, which is an instant of the server's and here only a number that changes."""

    id: str
    process: Process
    at: int | None
    stall_s: float
    pooled: bool

    def judge(self) -> tuple[float, str]:
        """For how long it may stand still, and why."""
        if self.pooled:
            return BEAT_GRACE, f"no beat within {BEAT_GRACE:g} s"
        return self.stall_s, f"it stands still: no beat within {self.stall_s:g} s"


class Reaper:
    """Finds the dead. One works at a time; any may take over, and counts from its own first look."""

    def __init__(
        self, run: Run, consumer_id: UUID, options: Options, time: ObservedTime | None = None
    ) -> None:
        """`consumer_id` is the consumer on whose behalf it looks, which it does not judge."""
        self._run = run
        self._me = consumer_id
        self._grace = options.grace
        self._max_deliveries = options.max_deliveries
        self._time = time or ObservedTime()
        self._missing: dict[str, float] = {}
        self._beats: dict[str, tuple[int, float]] = {}
        self._ended: dict[str, float] = {}
        self._count = 0
        self._recent: deque[float] = deque()
        self._crowded_until = 0.0
        self.processes: list[Process] = []
        """Of all other consumers, as of the last look at their beats."""

    @property
    def suspects(self) -> bool:
        """Whether somebody was missing at the last look."""
        return bool(self._missing or self._ended)

    def begin(self) -> None:
        """Forget who was missing: it may have been here since. A beat that was seen twice stood still."""
        self._missing.clear()

    def stands_still(self, consumer_id: str, beat: int) -> float:
        """For how many seconds a consumer was seen with this beat."""
        now = self._time.look()
        at, since = self._beats.get(consumer_id, (beat, now))
        self._beats[consumer_id] = beat, since if at == beat else now
        return now - self._beats[consumer_id][1]

    # -- by their sessions ---------------------------------------------------------------------------

    def reap_lost(self) -> list[int]:
        """Rules gone, followed, A and B. Returns the queues that have something to claim again."""
        rows = self._run((sql.FIND_LOST, (self._me,)))[0]
        lost = [_lost(rows, row) for row in range(rows.count)]
        now = self._time.look()
        self._missing = {one.id: self._missing.get(one.id, now) for one in lost}
        released: list[int] = []
        for one in self._spare_a_crowd(lost, now):
            patience, why = one.judge(self._grace)
            if now - self._missing[one.id] >= patience:
                released += self._give_back(one.id, one.process, why)
                del self._missing[one.id]
        return released

    def _spare_a_crowd(self, lost: list[Lost], now: float) -> Iterable[Lost]:
        """Without those who are probably alive behind a network that has just failed."""
        doubtful = [one for one in lost if not one.restarted and one.judge(self._grace)[0] > 0]
        for one in doubtful:
            if self._missing[one.id] == now:
                self._recent.append(now)
        while self._recent and self._recent[0] < now - _CROWD_WINDOW:
            self._recent.popleft()
        if now >= self._crowded_until and doubtful and self._is_crowd():
            _log.warning(
                "%d of %d consumers lost their sessions within %g s, as if the network had failed: waiting "
                "%g s longer",
                len(self._recent),
                self._count,
                _CROWD_WINDOW,
                _CROWD_GRACE,
            )
            self._crowded_until = now + self._grace + _CROWD_GRACE
            self._recent.clear()
        if now < self._crowded_until:
            return [one for one in lost if one not in doubtful]
        return lost

    def _is_crowd(self) -> bool:
        return len(self._recent) >= _CROWD and len(self._recent) > self._count / 2

    # -- by their beats ------------------------------------------------------------------------------

    def reap_silent(self) -> list[int]:
        """Rules C and D. Returns the queues that have something to claim again."""
        rows = self._run((sql.LIST_BEATS, (self._me,)))[0]
        beats = [_beat(rows, row) for row in range(rows.count)]
        now = self._time.look()
        self._count = len(beats) + 1
        self.processes = [one.process for one in beats]
        beaten, self._beats = self._beats, {}
        ended, self._ended = self._ended, {}
        released: list[int] = []
        for one in beats:
            if one.at is None:
                continue
            at, since = beaten.get(one.id, (one.at, now))
            self._beats[one.id] = one.at, since if at == one.at else now
            patience, why = one.judge()
            if one.process.ended():
                # The server does not know it yet, or has no session to know it by. What it sent last may
                # still be on its way.
                self._ended[one.id] = since = ended.get(one.id, now)
                patience, why = self._grace, "its process has ended"
            if now - since >= patience and at == one.at:
                released += self._silence(one, why)
        return released

    def _silence(self, one: Beat, why: str) -> list[int]:
        released = self._give_back(one.id, one.process, why, beat=one.at)
        self._beats.pop(one.id, None)
        self._ended.pop(one.id, None)
        if not one.pooled:
            end_sessions(self._run, UUID(one.id))
        return released

    # -- giving back ---------------------------------------------------------------------------------

    def _give_back(self, consumer_id: str, process: Process, why: str, beat: int | None = None) -> list[int]:
        freed = self._run((sql.REAP, (consumer_id, self._max_deliveries, beat)))[0]
        queues, total, ready = [], 0, 0
        for row in range(freed.count):
            if freed.number(row, 0) is not None:
                queues.append(freed.integer(row, 0))
                ready += freed.integer(row, 1)
                total += freed.integer(row, 2)
        if freed.count:  # else it showed a sign of life in the last moment, or another one was faster
            _log.warning(
                "consumer %s (process %d on %s) is gone: %s: %d of its messages are ready again, %d went to "
                "dead_letter after too many deliveries",
                consumer_id,
                process.pid,
                process.host,
                why,
                ready,
                total - ready,
            )
        return queues

    def release_orphans(self) -> list[int]:
        """What a consumer claimed in the moment in which it was declared dead."""
        rows = self._run((sql.RELEASE_ORPHANS, (2 * self._grace + 1,)))[0]
        return [rows.integer(row, 0) for row in range(rows.count)]


def end_sessions(run: Run, consumer_id: UUID, *, of_the_beat_alone: bool = False) -> None:
    """End the sessions of a consumer that stands still, so that it begins anew when it moves again."""
    keys = [int.from_bytes(consumer_id.bytes[8:], "big", signed=True)]
    if not of_the_beat_alone:
        keys.append(int.from_bytes(consumer_id.bytes[:8], "big", signed=True))
    rows = run((sql.END_SESSIONS, (keys,)))[0]
    if any(rows.raw(row, 0) is None for row in range(rows.count)):
        _log.warning(
            "consumer %s stands still and holds sessions of a role that this one may not end: grant it, or "
            "stop that process",
            consumer_id,
        )


def _lost(rows: Rows, row: int) -> Lost:
    return Lost(rows.text(row, 0) or "", read_process(rows, row), rows.flag(row, 5), rows.flag(row, 6))


def _beat(rows: Rows, row: int) -> Beat:
    return Beat(
        rows.text(row, 0) or "",
        read_process(rows, row),
        rows.number(row, 5),
        rows.integer(row, 6) / 1000,
        rows.flag(row, 7),
    )
