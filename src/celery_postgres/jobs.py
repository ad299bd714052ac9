"""Jobs and queues as people look at them: values, and how they are read from the views.

A job is a task that waits, runs or has ended, as far as the database knows. The views `job` and `queue_stats`
define what each column means; docs/jobs.md explains them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from .sql import jobs as sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .encoding import Rows
    from .wire import Call, Session

#: In the order in which a job goes through them.
STATES = ("scheduled", "created", "active", "retry", "completed", "failed", "cancelled", "dead")

WAITING = ("scheduled", "created", "retry")

#: Celery's words for the states in which a job has ended.
ENDED = {"completed": "SUCCESS", "failed": "FAILURE", "cancelled": "REVOKED"}

_EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class QueueStats:
    """What is in one queue. `oldest_s` is None where nothing is ready."""

    queue: str
    ready: int
    delayed: int
    unacked: int
    dead: int
    oldest_s: float | None
    consumers: int


@dataclass(frozen=True)
class Job:
    """A row of the view; what is not known is None."""

    id: str
    name: str | None
    queue: str | None
    state: str
    priority: int | None
    deliveries: int | None
    retries: int | None
    created_on: datetime | None
    started_on: datetime | None
    completed_on: datetime | None
    worker: str | None
    tracked: bool | None


@dataclass(frozen=True)
class Details:
    """What else is known of a job: what its message says while it is there, and what is recorded."""

    args: str | None = None
    kwargs: str | None = None
    eta: str | None = None
    due_on: datetime | None = None
    expires: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    held_by_host: str | None = None
    held_by_pid: int | None = None
    claimed_on: datetime | None = None
    dead_reason: str | None = None
    result_state: str | None = None
    result: Any = None
    error: str | None = None
    traceback: str | None = None
    recorded_on: datetime | None = None
    recorded_until: datetime | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None


@dataclass(frozen=True)
class Filter:
    """Which jobs. `name` may hold `*` for anything; `since` is included, `before` is not."""

    state: str | None = None
    queue: str | None = None
    name: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    limit: int = 20

    @property
    def dated(self) -> bool:
        return self.since is not None or self.before is not None


class Jobs:
    """Reads over one session. Each method blocks for its round trips; not for use by several threads."""

    def __init__(self, session: Session, timeout: float | None) -> None:
        self._session = session
        self._timeout = timeout

    def queues(self) -> list[QueueStats]:
        """All queues that hold messages as rows, by name; those of remote control and events are none."""
        rows = self._session.run((sql.QUEUES, ()), timeout=self._timeout)[0]
        return [_queue(rows, row) for row in range(rows.count)]

    def list(self, chosen: Filter) -> list[Job]:
        """The newest first; behind them those whose time of creation is not known, unless a time is asked."""
        values = (
            "-infinity" if chosen.since is None else chosen.since.isoformat(),
            "infinity" if chosen.before is None else chosen.before.isoformat(),
            chosen.queue,
            None if chosen.name is None else pattern(chosen.name),
        )
        state = chosen.state
        if state is None:
            call: Call = sql.LIST, (*values, chosen.limit)
        elif state in ENDED:
            call = sql.LIST_ENDED, (*values, chosen.limit, state, ENDED[state])
        else:
            statement = sql.LIST_WAITING if state in WAITING else sql.LIST_HELD
            call = statement, (*values, chosen.limit, state)
        found = list(_jobs(self._session.run(call, timeout=self._timeout)[0]))
        found.sort(key=lambda job: job.created_on or _EPOCH, reverse=True)
        if len(found) < chosen.limit and not chosen.dated:
            call = sql.LIST_UNDATED, (*values, chosen.limit - len(found), state)
            found += _jobs(self._session.run(call, timeout=self._timeout)[0])
        return found

    def find(self, task_id: str) -> tuple[Job, Details] | None:
        """Everything that is known of one job; None where nothing is."""
        rows, message, result = self._session.run(
            (sql.FIND, (task_id,)),
            (sql.FIND_MESSAGE, (task_id,)),
            (sql.FIND_RESULT, (task_id,)),
            timeout=self._timeout,
        )
        if not rows.count:
            return None
        details = _read_message(message) if message.count else Details()
        return _job(rows, 0), _read_result(details, result) if result.count else details


def pattern(name: str) -> str:
    """A name in which `*` stands for anything, as LIKE wants it."""
    for special in ("\\", "%", "_"):
        name = name.replace(special, f"\\{special}")
    return name.replace("*", "%")


def instant(rows: Rows, row: int, column: int) -> datetime | None:
    """A timestamptz, in UTC."""
    microseconds = rows.number(row, column)
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


def _queue(rows: Rows, row: int) -> QueueStats:
    oldest_ms = rows.number(row, 5)
    return QueueStats(
        queue=rows.text(row, 0) or "",
        ready=rows.integer(row, 1),
        delayed=rows.integer(row, 2),
        unacked=rows.integer(row, 3),
        dead=rows.integer(row, 4),
        oldest_s=None if oldest_ms is None else oldest_ms / 1000,
        consumers=rows.integer(row, 6),
    )


def _jobs(rows: Rows) -> Iterator[Job]:
    return (_job(rows, row) for row in range(rows.count))


def _job(rows: Rows, row: int) -> Job:
    return Job(
        id=rows.text(row, 0) or "",
        name=rows.text(row, 1),
        queue=rows.text(row, 2),
        state=rows.text(row, 3) or "",
        priority=rows.number(row, 4),
        deliveries=rows.number(row, 5),
        retries=rows.number(row, 6),
        created_on=instant(rows, row, 7),
        started_on=instant(rows, row, 8),
        completed_on=instant(rows, row, 9),
        worker=rows.text(row, 10),
        tracked=None if rows.raw(row, 11) is None else rows.flag(row, 11),
    )


def _read_message(rows: Rows) -> Details:
    headers = json.loads(rows.raw(0, 0) or b"{}")

    def said(key: str) -> str | None:
        value = headers.get(key)
        return value if isinstance(value, str) else None

    return Details(
        args=said("argsrepr"),
        kwargs=said("kwargsrepr"),
        eta=said("eta"),
        expires=said("expires"),
        root_id=said("root_id"),
        parent_id=said("parent_id"),
        group_id=said("group"),
        exchange=rows.text(0, 1),
        routing_key=rows.text(0, 2),
        due_on=instant(rows, 0, 4),
        dead_reason=rows.text(0, 5),
        held_by_host=rows.text(0, 6),
        held_by_pid=rows.number(0, 7),
        claimed_on=instant(rows, 0, 8),
    )


def _read_result(details: Details, rows: Rows) -> Details:
    meta = _meta(rows.text(0, 2), rows.raw(0, 4) or b"")
    traceback = meta.get("traceback")
    return replace(
        details,
        args=details.args if meta.get("args") is None else str(meta["args"]),
        kwargs=details.kwargs if meta.get("kwargs") is None else str(meta["kwargs"]),
        result_state=rows.text(0, 0),
        result=meta.get("result"),
        error=rows.text(0, 1),
        traceback=traceback if isinstance(traceback, str) else None,
        root_id=details.root_id or rows.text(0, 6),
        parent_id=details.parent_id or rows.text(0, 7),
        group_id=details.group_id or rows.text(0, 8),
        recorded_on=instant(rows, 0, 9),
        recorded_until=instant(rows, 0, 10),
    )


def _meta(content_type: str | None, payload: bytes) -> dict[str, Any]:
    """What Celery keeps of a task, where it is plain JSON; nothing where only Celery could read it."""
    if content_type != "application/json":
        return {}
    try:
        meta = json.loads(payload, parse_constant=str)  # JSON has no NaN, whatever Python writes
    except ValueError:  # compressed
        return {}
    return meta if isinstance(meta, dict) else {}
