"""One run: starts everything, strikes by seed, heals, waits until all is quiet, and has it judged."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celery.exceptions import OperationalError

from .checker import PROBED_WITHIN_S, Verdict, judge
from .faults import EVERYTHING
from .history import EVERYBODY, FaultRecord
from .journal import INTENT, OK, Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .arena import Arena, Worker
    from .faults import Fault

QUIET_S = 90.0
PROBE_AT_MOST_S = 60.0
BETWEEN_S = (0.5, 2.0)
READY_S = 120.0


@dataclass
class Plan:
    """How long, and what; the order follows from the seed."""

    seed: int
    seconds: float
    faults: Sequence[type[Fault]] = tuple(EVERYTHING)
    faults_at_most: int | None = None
    messages_at_least: int = 0
    backlog_at_most: int = 4000
    say: Callable[[str], None] = field(default=lambda _: None)


class Run:
    """Uses an arena once."""

    def __init__(self, arena: Arena, plan: Plan) -> None:
        self._arena = arena
        self._plan = plan
        self._history = arena.history
        self._random = random.Random(plan.seed)
        self._probes = Journal(arena.directory / "published-probe")
        self._struck = Journal(arena.directory / "faults")
        self._number = 0
        self._deck: list[type[Fault]] = []

    def whole(self) -> Verdict:
        arena, plan = self._arena, self._plan
        arena.start()
        self._probe("start", arena.workers, READY_S)
        self._history.recoveries.clear()
        begun = time.monotonic()
        while self._goes_on(begun):
            arena.pace(plan.backlog_at_most)
            time.sleep(self._random.uniform(*BETWEEN_S))
            self._strike()
        plan.say("publishing ends")
        arena.publishing_ends()
        self._wait_for_quiet()
        return judge(arena)

    def _goes_on(self, begun: float) -> bool:
        plan = self._plan
        if plan.faults_at_most is not None and len(self._history.faults) >= plan.faults_at_most:
            return self._history.outcomes[OK] < plan.messages_at_least
        return time.monotonic() - begun < plan.seconds or (
            self._history.outcomes[OK] < plan.messages_at_least
        )

    def _next_fault(self) -> Fault:
        """Each kind once, in a new order, before any comes again."""
        if not self._deck:
            self._deck = list(self._plan.faults)
            self._random.shuffle(self._deck)
        return self._deck.pop()(self._arena, self._random)

    def _strike(self) -> None:
        fault = self._next_fault()
        if not fault.possible():
            return
        begun = time.monotonic()
        self._plan.say(f"{fault.name}")
        victims = fault.strike()
        ended = time.monotonic()
        hit = frozenset(victims)
        self._history.faults.append(FaultRecord(fault.name, begun, ended, hit, fault.excuses))
        restarted = [w for w in self._arena.workers if w.name in hit and w.lives > 1 and EVERYBODY not in hit]
        self._struck.write(fault.name, f"{ended - begun:.2f}", ",".join(sorted(hit)))
        self._probe(fault.name, [w for w in self._arena.workers if w not in restarted], PROBE_AT_MOST_S)
        # One that was started again has to import Celery first.
        self._probe(f"{fault.name} and start", restarted, READY_S, measured=False)

    def _probe(
        self, after: str, workers: Sequence[Worker], at_most_s: float, *, measured: bool = True
    ) -> None:
        """Have each worker execute something, and see how long it takes."""
        begun = time.monotonic()
        waiting = {}
        for worker in workers:
            self._number += 1
            waiting[f"probe-{self._number}"] = worker
            self._send(f"probe-{self._number}", worker.queue, begun + at_most_s)
        while waiting:
            self._history.read()
            now = time.monotonic()
            for id_ in [id_ for id_ in waiting if self._history.executed(id_)]:
                worker = waiting.pop(id_)
                took = self._history.executions[id_, 0][0].begun - begun
                if measured:
                    self._history.recoveries.append((after, worker.name, took))
            if now - begun > at_most_s:
                late = sorted(worker.name for worker in waiting.values())
                self._history.recoveries += [(after, name, at_most_s + PROBED_WITHIN_S) for name in late]
                self._plan.say(f"no probe within {at_most_s:g} s after {after}: {late}")
                return
            time.sleep(0.05)

    def _send(self, id_: str, queue: str, deadline: float) -> None:
        """Until the server takes it."""
        self._probes.write(INTENT, id_, "probe")
        while True:
            try:
                self._arena.app.send_task("work", (0,), task_id=id_, queue=queue, priority=9)
            except OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                self._probes.write(OK, id_)
                return

    def _wait_for_quiet(self) -> None:
        """Until everything that is known to be stored was executed, and the tables are empty."""
        deadline = time.monotonic() + QUIET_S
        most = len(self._history.executions)
        while time.monotonic() < deadline:
            self._history.read()
            if len(self._history.executions) > most:  # as long as something is going on
                most = len(self._history.executions)
                deadline = time.monotonic() + QUIET_S
            with self._arena.connect() as connection:
                ((left,),) = connection.execute(
                    "SELECT (SELECT count(*) FROM celery.ready) + (SELECT count(*) FROM celery.unacked)"
                    " + (SELECT count(*) FROM celery.delayed)"
                ).fetchall()
            if not left:
                return
            time.sleep(0.2)


def summary(plan: Plan, arena: Arena, verdict: Verdict) -> str:
    """For people, and to do it again."""
    faults = Counter(fault.kind for fault in arena.history.faults)
    lines = [
        f"seed {plan.seed}: {sum(faults.values())} faults",
        f"acknowledged to their publishers: {verdict.messages}; of unknown outcome: {verdict.unknown}",
        f"executions: {verdict.executions}",
        "faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items())),
        f"lost: {len(verdict.lost)}; in dead_letter: {verdict.dead}",
        f"executed again: {sum(verdict.explained.values())} explained"
        + "".join(f", {kind} {count}" for kind, count in sorted(verdict.explained.items()))
        + f"; unexplained: {len(verdict.unexplained)}; of a crash and in no log: {len(verdict.untold)}",
        f"slowest probe after a fault: {verdict.slowest_probe:.1f} s",
    ]
    lines += [f"LOST {id_}" for id_ in verdict.lost[:20]]
    lines += [f"IN NO LOG {what}" for what in verdict.untold[:20]]
    lines += [f"UNEXPLAINED {what}" for what in verdict.unexplained[:20]]
    lines += [f"WRONG {what}" for what in verdict.wrong[:40]]
    return "\n".join(lines)
