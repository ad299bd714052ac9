"""Brings a consumer's line home: a new session, the same incarnation, and both sides agreed on what it holds.

    connect ──▶ end the old session, take its lock ──▶ LISTEN, subscriptions ──▶ reconcile ──▶ hand over

Once the lock is ours, no statement of the old session can commit any more: the server frees a lock behind
the last of them. Behind a transaction pooler there is no lock, and a statement that was under way may still
commit; what it claimed is found by the next reconciliation.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from .errors import DatabaseUnavailable, passing_is_unavailable
from .liveness import BACKENDS
from .reconcile import Findings, reconcile
from .sql import reconcile as sql
from .sql.flush import NEVER_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .connection import Server
    from .encoding import Rows
    from .held import Held
    from .idleness import Idleness
    from .line import Line
    from .liveness import Incarnation
    from .messages import Key
    from .subscription import Roster
    from .wire import Call, Session

_log = logging.getLogger(__name__)

#: How many tasks a line of the log names.
TOLD_AT_ONCE = 100


def own_settings(idleness: Idleness, *, pooled: bool) -> list[Call]:
    """What each session of a consumer begins with."""
    calls: list[Call] = [] if pooled else [(NEVER_WAIT, ())]
    return [*calls, *idleness.listen()]


class Recovery:
    """Makes the sessions of one incarnation. Works in one thread at a time."""

    def __init__(
        self,
        connect: Callable[[], tuple[Session, Server]],
        line: Line,
        incarnation: Incarnation,
        roster: Roster,
        held: Held,
        *,
        settings: Callable[[], Sequence[Call]],
        pooled: bool,
        timeout: float | None,
    ) -> None:
        self._connect = connect
        self._line = line
        self._incarnation = incarnation
        self._roster = roster
        self._held = held
        self._settings = settings
        self._pooled = pooled
        self._timeout = timeout
        self._backends: deque[int] = deque(maxlen=BACKENDS)
        """Process ids of those of our sessions that the server may still believe in."""
        self.on_agreed: Callable[[Findings], None] | None = None
        """Gets what was found, under the line's lock, when the line is home and nothing has been claimed."""
        self.on_declared_dead: Callable[[bool], None] | None = None
        """Others have been given what we held: the line has to end. Gets whether the server has crashed."""

    def begin(self, session: Session, *, stall_timeout: float, timeout: float) -> None:
        """Make the first session one of the incarnation's."""
        register = self._incarnation.register(pooled=self._pooled, stall_timeout=stall_timeout)
        with passing_is_unavailable():
            batches = [session.send(calls) for calls in (register, self._settings())]
            for batch in batches:
                session.wait(batch, timeout=timeout)
        self._incarnation.registered(batches[0].results)
        self._backends.append(session.backend_pid)

    def restore(self) -> bool:
        """Bring the line home; blocks. False when we were declared dead meanwhile.

        Raises what the server says, and what the way to it says.
        """
        session, server = self._connect()
        try:
            findings = self._resume(session, server)
        except BaseException:
            session.close()
            raise
        if findings is None:
            session.close()
            return False
        tell(findings)
        return True

    def _resume(self, session: Session, server: Server) -> Findings | None:
        """None when the line is over: a new connection has to be made."""

        def run(*calls: Call) -> list[Rows]:
            return session.run(*calls, timeout=self._timeout)

        if server.pooled != self._pooled:
            self._line.end(DatabaseUnavailable("a pooler has come in between, or is gone: connecting anew"))
            return None
        key = self._incarnation.lock_key
        calls = self._incarnation.resume(key, self._backends, pooled=self._pooled)
        self._backends.append(session.backend_pid)
        life = self._incarnation.resumed(run(*calls))
        if not life.known:
            if self.on_declared_dead is not None:
                self.on_declared_dead(not life.in_order)
            return None
        with self._line.lock:
            known, settled = self._held.all(), self._held.remembered()
            enrol = self._enrol()
        run(*self._settings(), enrol)
        findings = reconcile(run, self._incarnation.id, known, settled)
        findings.crashed = not life.in_order
        with self._line.lock:
            self._line.replace(session)
            self._incarnation.life = life.name
            if self.on_agreed is not None:
                self.on_agreed(findings)
        return findings

    def _enrol(self) -> Call:
        subscriptions = self._roster.subscriptions
        return sql.ENROL, (
            self._incarnation.id,
            [subscription.name for subscription in subscriptions],
            [subscription.queue.id for subscription in subscriptions],
            [subscription.no_ack for subscription in subscriptions],
            [subscription.exclusive for subscription in subscriptions],
        )


def tell(findings: Findings) -> None:
    """In the log: what is executed twice, or may be, and what was put right."""
    for claimed in findings.taken:
        _log.warning(
            "the claim of message %d (task %s) was undone by a crash of the server, and another consumer "
            "has it: an acknowledgement of ours will change nothing",
            claimed.message_id,
            claimed.task_id,
        )
    for key, task in findings.overtaken.items():
        _log.warning(
            "the acknowledgement of message %d (task %s) was undone by a crash of the server, and "
            "another consumer has it: it is executed again",
            key.message_id,
            task,
        )
    tell_of_untraced(findings.untraced)
    if findings.unknown or findings.adopted or findings.repeated:
        _log.warning(
            "reconciled: %d messages whose claim had not been answered were taken in, %d were claimed "
            "again, %d settled again",
            len(findings.unknown),
            findings.adopted,
            findings.repeated,
        )


def tell_of_untraced(untraced: Mapping[Key, str | None]) -> None:
    """In the log: what was acknowledged so shortly before a crash that it may have been undone."""
    names = list(untraced.values())
    for first in range(0, len(names), TOLD_AT_ONCE):
        tasks = names[first : first + TOLD_AT_ONCE]
        _log.warning(
            "the server crashed, or a standby took its place, shortly after the acknowledgement of %d "
            "messages: where that was undone, another consumer has executed them again (tasks %s)",
            len(tasks),
            ", ".join(map(str, tasks)),
        )
