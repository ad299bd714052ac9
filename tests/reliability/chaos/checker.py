"""Compares what was published, what was executed, and what the database holds, when all is quiet."""

from __future__ import annotations

import re
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celery import states

from celery_postgres.backoff import LONGEST

from .history import EVERYBODY, OK, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from .arena import Arena
    from .history import Execution, FaultRecord, History, Key

PROBED_WITHIN_S = 10.0

#: A fault may strike between the end of a task and the moment in which its acknowledgement is on the disk.
#: While the database is out of reach the result waits, and the acknowledgement waits for that.
SETTLED_WITHIN_S = 1.5

#: What the server had no room for is tried again after a pause that has grown meanwhile.
SETTLED_WITHIN_S_OF_ROOM = LONGEST + SETTLED_WITHIN_S

#: Faults that undo what the server had not written yet. Whose message another then executes, says so.
CRASHES = ("CrashServer", "KillBackend", "PromoteStandby")

STATES = ("ready", "unacked", "delayed")

#: Of a publisher: one that was started just before publishing ended does not handle the signal yet.
ENDED_AS_TOLD = (None, 0, -signal.SIGTERM)

#: What Celery itself writes with a traceback: when a process of its pool was killed; when a task could not
#: publish its retry, which ends the task; and of any broker's connection that is gone.
OF_CELERY = ("WorkerLostError", "reject requeue=False: ", "Couldn't ack")


@dataclass
class Verdict:
    """`wrong` is empty when all is well."""

    messages: int = 0
    executions: int = 0
    unknown: int = 0
    lost: list[str] = field(default_factory=list)
    dead: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    """Duplicates, by the fault that explains them."""
    untold: list[str] = field(default_factory=list)
    """Those of a crash, explained, that no worker's log names."""
    unexplained: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    slowest_probe: float = 0.0

    @property
    def passed(self) -> bool:
        return not (self.lost or self.unexplained or self.wrong)


def judge(arena: Arena) -> Verdict:
    """After publishing has ended, all faults are healed and the queues have run empty."""
    history = arena.history
    history.read()
    verdict = Verdict(
        messages=history.outcomes[OK],
        executions=sum(map(len, history.executions.values())),
        unknown=sum(1 for entry in history.published.values() if entry.outcome in (UNKNOWN, None)),
    )
    with arena.connect() as connection:
        dead = _dead_letters(connection)
        verdict.dead = len(dead)
        verdict.lost = [id_ for id_ in history.not_executed() if id_ not in dead]
        _check_tables(connection, arena, verdict)
        _check_results(connection, history, verdict)
    _check_duplicates(history, verdict, arena)
    _check_probes(history, verdict)
    _check_processes(arena, verdict)
    _check_logs(arena, verdict)
    return verdict


def _dead_letters(connection: psycopg.Connection[Any]) -> set[str]:
    rows = connection.execute(
        "SELECT m.task_id FROM celery.dead_letter d JOIN celery.message m ON m.id = d.message_id"
    )
    return {task_id for (task_id,) in rows}


def _check_tables(connection: psycopg.Connection[Any], arena: Arena, verdict: Verdict) -> None:
    for table in STATES:
        ((count,),) = connection.execute(f"SELECT count(*) FROM celery.{table}".encode()).fetchall()
        if count:
            verdict.wrong.append(f"{count} rows are left in {table}")
    ((count,),) = connection.execute(
        "SELECT count(*) FROM celery.message WHERE id NOT IN (SELECT message_id FROM celery.dead_letter)"
    ).fetchall()
    if count:
        verdict.wrong.append(f"{count} messages are left in no state")
    alive = {pid for worker in arena.workers if worker.alive for pid in worker.pids()}
    owners = connection.execute("SELECT pid, node FROM celery.consumer").fetchall()
    verdict.wrong += [
        f"{node} ({pid}) is in consumer and not alive" for pid, node in owners if pid not in alive
    ]


def _check_results(connection: psycopg.Connection[Any], history: History, verdict: Verdict) -> None:
    """What ended has its success stored, as the last word."""
    stored = dict(connection.execute("SELECT task_id, state FROM celery.result").fetchall())
    for (id_, _), executions in history.executions.items():
        entry = history.published.get(id_)
        if entry is None or entry.kind not in ("answer", "chord"):
            continue
        if any(e.ended is not None for e in executions) and stored.get(id_) != states.SUCCESS:
            verdict.wrong.append(f"{id_} has ended, and its state is {stored.get(id_)}")


def _check_duplicates(history: History, verdict: Verdict, arena: Arena) -> None:
    undone, dedup = _undone(arena), arena.crew.dedup
    told = undone | _in_doubt(arena)
    for key, executions in history.executions.items():
        if key[0].startswith("poison"):
            continue
        executions.sort(key=lambda execution: execution.begun)
        for number, again in enumerate(executions[1:], 1):
            causes = explanations(history, key, executions[:number], again)
            # One that has to be told only where nothing else explains it.
            silent = [cause for cause in causes if cause not in CRASHES or key[0] in told]
            cause = next(iter(silent or causes), None)
            if cause is None and key[0] in undone:
                cause = "undone claim"
            if cause is None and key[1] and number < len(history.executions.get((key[0], key[1] - 1), ())):
                cause = "its sender ran again"  # and published it again: a message of its own
            if cause is None and not dedup and _was_published_again(history, key, executions[:number], again):
                cause = "repeated publish"
            if cause is not None:
                verdict.explained[cause] += 1
                if cause in CRASHES and key[0] not in told:
                    verdict.untold.append(f"{key[0]} ({cause}): {executions}")
            else:
                verdict.unexplained.append(f"{key[0]} (retry {key[1]}): {executions}")
                break


def explanations(history: History, key: Key, before: list[Execution], again: Execution) -> list[str]:
    """The faults that hit an earlier executor between its beginning and its acknowledgement."""
    causes = []
    for execution in before:
        end = again.begun if execution.ended is None else _settled(history, execution.ended)
        causes += [
            fault.kind
            for fault in history.faults
            if fault.excuses and fault.hits(execution.worker) and _overlap(fault, execution.begun, end)
        ]
    entry = history.published.get(key[0])
    if entry is not None and entry.outcome != OK and not again.redelivered:
        causes.append("unknown outcome")
    return causes


def _settled(history: History, ended: float) -> float:
    """When the acknowledgement of a task that ended then is on the disk at the latest."""
    latest = ended + SETTLED_WITHIN_S
    for fault in sorted(history.faults, key=lambda fault: fault.begun):
        if EVERYBODY in fault.victims and fault.begun <= latest and fault.ended >= ended:
            within = SETTLED_WITHIN_S_OF_ROOM if fault.kind == "FillDisk" else SETTLED_WITHIN_S
            latest = max(latest, fault.ended + within)
    return latest


def _was_published_again(history: History, key: Key, before: list[Execution], again: Execution) -> bool:
    """Whether its publisher may have lost an answer, and each of the two is the first delivery of its own."""
    if again.redelivered or all(execution.redelivered for execution in before):
        return False
    if not key[1]:
        entry = history.published[key[0]]
        return any(EVERYBODY in f.victims and _overlap(f, entry.at, entry.settled_at) for f in history.faults)
    senders = history.executions.get((key[0], key[1] - 1), ())  # the retry was published by the task
    return any(
        fault.hits(sender.worker) and _overlap(fault, sender.begun, again.begun)
        for sender in senders
        for fault in history.faults
    )


def _overlap(fault: FaultRecord, begin: float, end: float) -> bool:
    return fault.begun <= end and begin <= fault.ended


def _check_probes(history: History, verdict: Verdict) -> None:
    for fault, worker, seconds in history.recoveries:
        verdict.slowest_probe = max(verdict.slowest_probe, seconds)
        if seconds > PROBED_WITHIN_S:
            verdict.wrong.append(f"{worker} took {seconds:.1f} s to process a probe after {fault}")


def _check_processes(arena: Arena, verdict: Verdict) -> None:
    verdict.wrong += [
        f"{member.name} has ended by itself, with {member.popen and member.popen.returncode}"
        for member in arena.workers
        if not member.alive
    ]
    verdict.wrong += [
        f"{publisher.name} has ended by itself, with {publisher.popen.returncode}"
        for publisher in arena.publishers
        if publisher.popen is not None and publisher.popen.returncode not in ENDED_AS_TOLD
    ]


def _check_logs(arena: Arena, verdict: Verdict) -> None:
    password = arena.servers.password
    for member in arena.members:
        for output in member.outputs:
            text = output.read_text(errors="replace")
            if password in text:
                verdict.wrong.append(f"{output.name} shows the password")
            verdict.wrong += [f"{output.name}: {last}" for last in _tracebacks(text)]


def _tracebacks(text: str) -> list[str]:
    """The first and the last line of each entry of a log that holds a traceback nobody has explained."""
    entries = [entry.strip().splitlines() for entry in re.split(r"^(?=\[20)", text, flags=re.MULTILINE)]
    return [
        f"{lines[0][:200]} … {lines[-1][:200]}"
        for lines in entries
        if any("Traceback (most recent call last)" in line for line in lines)
        and not any(known in line for known in OF_CELERY for line in lines)
    ]


def _undone(arena: Arena) -> set[str]:
    """The tasks of which a worker says that a crash of the server has undone their claim."""
    return set(_found_in_logs(arena, r"\(task ([^)]*)\) was undone by a crash"))


def _in_doubt(arena: Arena) -> set[str]:
    """Those whose acknowledgement may have been undone, of which nothing is left."""
    lines = _found_in_logs(arena, r"another consumer has executed them again \(tasks ([^)]*)\)")
    return {id_ for line in lines for id_ in line.split(", ")}


def _found_in_logs(arena: Arena, pattern: str) -> Iterator[str]:
    for worker in arena.workers:
        for output in worker.outputs:
            yield from re.findall(pattern, output.read_text(errors="replace"))
