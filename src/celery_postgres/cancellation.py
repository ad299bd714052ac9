"""Cancels a job that waits, for good.

Celery's revoke is a word to the workers: they forget it after hours, and all of them at a restart. Here the
message is removed, so there is nothing left to run, and the task's state becomes REVOKED.

One transaction locks the message, has the state recorded and removes the message. While it is locked, nobody
can claim it; whoever dies in between leaves it as it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .jobs import WAITING, Job, Jobs
from .messages import Claimed, read_claimed
from .results import Encoded, Result
from .sql import jobs as sql
from .wakeup import ResultBell

if TYPE_CHECKING:
    from typing import Protocol

    from .wire import Session

    class Recorder(Protocol):
        """Records the state REVOKED of the task that a message is for."""

        def __call__(self, task_id: str, message: Claimed) -> Recorded: ...


REASON = "cancelled"

#: A message that is being promoted, or was given back, may have to be looked for again.
_LOOKS_AT_MOST = 5

#: How long the state is kept: Celery's default for `result_expires`.
_KEEP_S = 86_400.0


@dataclass(frozen=True)
class Recorded:
    """What was done about the result of a task.

    `state` is stored in the transaction that removes the message; None where that was done already, or need
    not be. `chord` says whether the task is part of a chord that has not been told; None where nobody knows.
    """

    state: Result | None
    recorded: bool
    untold_chord: bool | None


@dataclass(frozen=True)
class Outcome:
    """What became of one id: cancelled, or the state for which it was not; None if nobody knows the id."""

    id: str
    cancelled: bool
    state: str | None
    recorded: bool = False
    untold_chord: bool | None = False


class Cancellation:
    """Over one session, which it uses alone. Raises what the session raises; then nothing is cancelled."""

    def __init__(self, session: Session, jobs: Jobs, timeout: float | None, record: Recorder) -> None:
        self._session = session
        self._jobs = jobs
        self._timeout = timeout
        self._record = record

    def cancel(self, task_id: str) -> Outcome:
        """Cancel one job if it waits. Blocks for a few round trips, and for who claims it at this moment."""
        job: Job | None = None
        for _ in range(_LOOKS_AT_MOST):
            outcome = self._attempt(task_id)
            if outcome is not None:
                return outcome
            found = self._jobs.find(task_id)
            job = found[0] if found else None
            if job is None or job.state not in WAITING:
                break
        return Outcome(task_id, cancelled=False, state=None if job is None else job.state)

    def _attempt(self, task_id: str) -> Outcome | None:
        """None where nothing waits."""
        run = self._session.run
        over = False
        try:
            locked = run((sql.BEGIN, ()), (sql.LOCK_WAITING, (task_id,)), timeout=self._timeout)[1]
            waiting = read_claimed(locked)
            if not waiting:
                return None
            recorded = self._record(task_id, max(waiting, key=lambda message: message.message_id))
            storing = [] if recorded.state is None else [recorded.state.call()]
            ids = [message.message_id for message in waiting]
            run(*storing, (sql.DROP_WAITING, (ids,)), (sql.COMMIT, ()), timeout=self._timeout)
            over = True
        finally:
            if not over and self._session.broken is None:
                run((sql.ROLLBACK, ()), timeout=self._timeout)
        if recorded.state is not None:
            bell = ResultBell(self._session.schema)
            run(bell.ring(recorded.state), timeout=self._timeout)
        return Outcome(
            task_id,
            cancelled=True,
            state="cancelled",
            recorded=recorded.recorded,
            untold_chord=recorded.untold_chord,
        )


def record_revoked(task_id: str, message: Claimed) -> Recorded:
    """Without the application: as Celery's JSON, for a day, where the task does not ignore its result.

    The body of a chord is not told: only the application can run its errbacks.
    """
    headers: dict[str, Any] = json.loads(message.headers)
    chord = _is_part_of_chord(message, headers)
    if headers.get("ignore_result") is True:
        return Recorded(None, recorded=False, untold_chord=chord)
    meta: dict[str, Any] = {
        "status": "REVOKED",
        "result": {
            "exc_type": "TaskRevokedError",
            "exc_message": [REASON],
            "exc_module": "celery.exceptions",
        },
        "traceback": None,
        "children": [],
        "date_done": datetime.now(timezone.utc).isoformat(),
        "task_id": task_id,
    }
    state = Result(
        task_id=task_id,
        state="REVOKED",
        final=True,
        encoded=Encoded("application/json", "utf-8", json.dumps(meta).encode()),
        error=f"TaskRevokedError: {REASON}",
        name=_text(headers, "task"),
        queue=message.routing_key,
        retries=headers["retries"] if isinstance(headers.get("retries"), int) else None,
        root_id=_text(headers, "root_id"),
        parent_id=_text(headers, "parent_id"),
        group_id=_text(headers, "group"),
        created_us=message.enqueued_at,
        keep_s=_KEEP_S,
    )
    return Recorded(state, recorded=True, untold_chord=chord)


def _text(headers: dict[str, Any], key: str) -> str | None:
    value = headers.get(key)
    return value if isinstance(value, str) and "\0" not in value else None


def _is_part_of_chord(message: Claimed, headers: dict[str, Any]) -> bool | None:
    """Celery's body is [args, kwargs, embedded]. None where it cannot be read here and may be a part."""
    if not headers.get("group"):
        return False
    try:
        embedded = json.loads(message.body)[2]
        return embedded.get("chord") is not None
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
