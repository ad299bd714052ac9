"""One contender in one round: everything that is measured of it, over one worker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from celery_postgres.compare import processes
from celery_postgres.compare.notes import key
from celery_postgres.compare.places import Usage
from celery_postgres.compare.report.statistics import percentile

from . import bystanders
from .catalogue import Finding
from .drain import each_s, first_starts, wait_started
from .server import Server, between, per_thousand
from .worker import running
from .workload import CHORD_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_postgres.compare.arena import Arena
    from celery_postgres.verify.worker import Worker

    from .bystanders import MachineLook
    from .client import Client, Published
    from .plan import Plan
    from .workload import Workload, Workloads

_TRIP_PAUSE_MS = 20.0
# Fewer than these do not fill the pages of a table.
_ENOUGH_FOR_DISK = 100
# A worker that has just drained its queue gives its last acknowledgements.
_CALM_S = 0.1


def visit(
    arena: Arena,
    client: Client,
    workloads: Workloads,
    plan: Plan,
    first: bool,
    tell: Callable[[str], None],
) -> Finding:
    """Raises Failure. `tell` hears what is being done; `first` is the first round."""
    return _Visit(arena, client, workloads, plan, Server.of(arena), Finding(), tell).run(first)


@dataclass(frozen=True)
class _Visit:
    arena: Arena
    client: Client
    workloads: Workloads
    plan: Plan
    server: Server
    found: Finding
    tell: Callable[[str], None]

    def run(self, first: bool) -> Finding:
        self.arena.notes.forget()
        published = {one.key: self._publish(one, first) for one in self.workloads.sent}
        log_bytes = self.server.usage().log_bytes
        self.tell("starting a worker")
        with running(self.arena) as worker:
            known = 0
            for one in self.workloads.sent:
                ids = published[one.key].ids
                self._drain(one, ids, worker, known)
                if one is self.workloads.main:
                    self._add("server.log", per_thousand(log_bytes, self.server.usage().log_bytes, len(ids)))
                known += len(ids)
            time.sleep(_CALM_S + self.plan.rest_s)
            self._latency(worker)
            self._trips()
            self._chords()
            self._footprint(worker)
        self.arena.raise_failed_tasks()
        costs = [self.found.values.get(f"cpu.{whose}") for whose in ("client", "worker", "server")]
        if None not in costs:
            self._put("cpu.all", sum(cost for cost in costs if cost is not None))
        return self.found

    def _put(self, key: str, value: float | None) -> None:
        if value is not None:
            self.found.values[key] = value

    def _add(self, key: str, value: float | None) -> None:
        """The second part of a value; without both there is none."""
        first = self.found.values.pop(key, None)
        if first is not None and value is not None:
            self.found.values[key] = first + value

    def _publish(self, workload: Workload, first: bool) -> Published:
        self.tell(f"publishing {workload.title}")
        is_main = workload is self.workloads.main
        before = self.server.usage() if is_main else Usage()
        server_s, machine = self.server.cpu_s(), bystanders.look()
        done = self.client.publish(workload, self.plan.counts[workload.key], self.plan.publish_limit_s)
        machine_after, server_after_s = bystanders.look(), self.server.cpu_s()
        count = len(done.ids)
        if workload in self.workloads.published:
            self._put(f"publish.{workload.key}", count / done.took_s)
        if is_main:
            after = self.server.usage()
            self._put("cpu.client", done.cpu_s * 1e6 / count)
            self._put("cpu.server", _ms(per_thousand(server_s, server_after_s, count)))
            self._put("server.log", per_thousand(before.log_bytes, after.log_bytes, count))
            if first and count >= _ENOUGH_FOR_DISK:
                self._put("server.disk", per_thousand(before.disk_bytes, after.disk_bytes, count))
            self._machine(machine, machine_after, done.cpu_s, between(server_s, server_after_s))
        return done

    def _drain(self, workload: Workload, ids: list[str], worker: Worker, known: int) -> None:
        self.tell(f"draining {workload.title}")
        # The worker is at its first tasks here, and does nothing but them.
        before, server_s, machine = self._look(worker), self.server.cpu_s(), bystanders.look()
        wait_started(self.arena, ids, worker, known)
        after, server_after_s, machine_after = self._look(worker), self.server.cpu_s(), bystanders.look()
        self._put(f"drain.{workload.key}", 1 / each_s(first_starts(self.arena), ids))
        if workload is self.workloads.main:
            # A few tasks are over before one can look.
            started = after.started - before.started
            if 2 * started < len(ids):
                started = 0
            self._put("cpu.worker", _ms(per_thousand(before.cpu_s, after.cpu_s, started)))
            self._add("cpu.server", _ms(per_thousand(server_s, server_after_s, started)))
            self._machine(
                machine, machine_after, between(before.cpu_s, after.cpu_s), between(server_s, server_after_s)
            )

    def _latency(self, worker: Worker) -> None:
        self.tell("idle latency")
        known = self.arena.notes.count()
        sent = self.client.pace(self.workloads.main, self.plan.samples, self.plan.interval_ms)
        wait_started(self.arena, list(sent), worker, known)
        starts = first_starts(self.arena)
        self._times("latency", [(starts[key(id_)] - at_ns) / 1e6 for id_, at_ns in sent.items()])

    def _trips(self) -> None:
        if not self.arena.has_results:
            self.found.unable["roundtrip"] = "keeps no results"
            return
        self.tell("round trips")
        answered = self.client.call(self.workloads.answered, self.plan.trips_s, _TRIP_PAUSE_MS)
        if answered.unable:
            self.found.unable["roundtrip"] = answered.unable
        else:
            self._times("roundtrip", answered.took_ms)

    def _chords(self) -> None:
        if not self.arena.has_results or not self.plan.chords_s:
            self.found.unable["chord"] = (
                "one would take too long" if self.arena.has_results else "keeps no results"
            )
            return
        self.tell("chords")
        workloads = self.workloads
        answered = self.client.chord(workloads.answered, CHORD_SIZE, workloads.body, self.plan.chords_s)
        if answered.unable:
            self.found.unable["chord"] = answered.unable
        else:
            self._put("chord", median(answered.took_ms))

    def _footprint(self, worker: Worker) -> None:
        self._put("server.memory", self.server.usage().memory_bytes)
        self._put("server.processes", self.server.count())
        if processes.visible():
            self._put("worker.processes", len(processes.tree(worker.pid)))
            self._put("worker.memory", processes.tree_memory_bytes(worker.pid))
            self._put("worker.connections", processes.tree_connections(worker.pid) or None)

    def _times(self, family: str, took_ms: list[float]) -> None:
        for percent in (50, 95, 99):
            self._put(f"{family}.p{percent}", percentile(took_ms, percent))
        self.found.samples[family] = [round(ms, 3) for ms in took_ms]

    def _machine(
        self,
        before: MachineLook | None,
        after: MachineLook | None,
        own_s: float | None,
        server_s: float | None,
    ) -> None:
        """A local server whose time is not readable would look like somebody else's work."""
        if own_s is None or (server_s is None and self.arena.place.is_local):
            return
        share = bystanders.share(before, after, own_s + (server_s or 0.0))
        if share is not None:
            self.found.others.append(share)

    def _look(self, worker: Worker) -> _Look:
        return _Look(self.arena.notes.count(), self.arena.worker_cpu_s(worker))


@dataclass(frozen=True)
class _Look:
    """What could be seen of a worker at one moment."""

    started: int
    cpu_s: float | None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
