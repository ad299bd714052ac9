"""Consumers that do not do their part: silent, idle beside full queues, or gone with what they held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.doctor.finding import OK, PROBLEM, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.doctor.patient import Patient

#: Beats come every few seconds, from those that acknowledge.
_SILENT_S = 45.0
#: A message that is ready is claimed in milliseconds by who has room for it.
_UNCLAIMED_S = 10.0
#: Orphans are given back after twice the grace and a second, by whoever sweeps every 5 s.
_ORPHANED_S = 30.0

_CONSUMERS = """SELECT c.host, c.pid, extract(epoch FROM now() - c.beat_at)::float8,
       CASE WHEN c.pooled THEN c.beat_at > now() - interval '30 s' ELSE EXISTS (
           SELECT FROM pg_locks l
            WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND (l.classid::bigint << 32 | l.objid::bigint) IN (c.lock_key, c.beat_key)) END,
       (SELECT count(*) FROM {s}.unacked u WHERE u.consumer_id = c.id),
       c.beat_at <> c.started_at,
       ARRAY (SELECT q.name FROM {s}.consumer_queue t JOIN {s}.queue q ON q.id = t.queue_id
               WHERE t.consumer_id = c.id ORDER BY q.name),
       c.node
  FROM {s}.consumer c ORDER BY c.host, c.pid"""

_QUEUES = """SELECT queue, ready, oldest_s::float8, consumers
  FROM {s}.queue_stats WHERE ready > 0 ORDER BY queue"""

_ORPHANS = """SELECT count(*), extract(epoch FROM now() - min(u.claimed_at))::float8 FROM {s}.unacked u
 WHERE u.claimed_at < now() - %(since)s * interval '1 s'
   AND NOT EXISTS (SELECT FROM {s}.consumer c WHERE c.id = u.consumer_id)"""


def check(patient: Patient) -> Iterator[Finding]:
    queues = {name: (ready, oldest) for name, ready, oldest, _ in patient.rows(_QUEUES)}
    consumers = patient.rows(_CONSUMERS)
    found = False
    for finding in (
        *_unconsumed(patient),
        *(finding for row in consumers for finding in _consumer(row, queues)),
        *_orphans(patient),
    ):
        found = True
        yield finding
    if not found:
        yield Finding(
            "workers",
            OK,
            f"{len(consumers)} consumers, none of which keeps a message waiting",
            figures={"consumers": len(consumers)},
        )


def _unconsumed(patient: Patient) -> Iterator[Finding]:
    for name, ready, oldest, consumers in patient.rows(_QUEUES):
        if not consumers and (oldest or 0) > patient.patience_s:
            yield Finding(
                "workers",
                WARNING,
                f"queue {name!r} has {ready} messages, the oldest for {oldest:.0f} s, and nobody consumes it",
                f"start a worker with -Q {name}, or purge the queue if it is no longer used",
                {"queue": name, "ready": ready, "oldest_s": oldest},
            )


def _consumer(row: tuple[object, ...], queues: dict[str, tuple[int, float | None]]) -> Iterator[Finding]:
    host, pid, beat_s, connected, holds, beats, names, node = row
    assert isinstance(beat_s, float)
    assert isinstance(names, list)
    who = f"process {pid} on {host}" + (f" ({node})" if node else "")
    figures = {"host": host, "pid": pid, "node": node, "beat_s": beat_s, "holds": holds, "queues": names}
    if not connected:
        if beat_s > _ORPHANED_S:
            yield Finding(
                "workers",
                PROBLEM,
                f"{who} is gone, and nobody has given back the {holds} messages that it held",
                "start a worker: whichever runs sweeps for all",
                figures,
            )
        return
    silent = bool(beats) and beat_s > _SILENT_S
    if silent:
        yield Finding(
            "workers",
            PROBLEM,
            f"{who} is connected and has not beaten for {beat_s:.0f} s: it is stopped, or hangs",
            f"look what it does (py-spy dump --pid {pid}), and end it with SIGKILL: what it holds is given "
            "back within seconds",
            figures,
        )
    waiting = [(name, *queues[name]) for name in names if name in queues]
    late = [(name, ready, oldest) for name, ready, oldest in waiting if (oldest or 0) > _UNCLAIMED_S]
    if late and not holds and not silent:
        name, ready, oldest = max(late, key=lambda queue: queue[2] or 0)
        yield Finding(
            "workers",
            WARNING,
            f"{who} is alive and claims nothing, while {ready} messages wait in its queue {name!r}, the "
            f"oldest for {oldest:.0f} s: it runs a long task that was acknowledged early, or it hangs",
            f"celery inspect active tells what it runs; if it runs nothing, look what it does (py-spy dump "
            f"--pid {pid}) and restart it",
            figures,
        )


def _orphans(patient: Patient) -> Iterator[Finding]:
    number, oldest = patient.row(_ORPHANS, {"since": _ORPHANED_S})
    if number:
        yield Finding(
            "workers",
            PROBLEM,
            f"{number} messages are claimed by consumers that do not exist, the oldest for {oldest:.0f} s: "
            "nobody gives them back",
            "start a worker: whichever runs sweeps for all",
            {"orphans": number, "oldest_s": oldest},
        )
