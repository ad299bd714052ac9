"""The observer's end of a client that waits for results: what a call takes, and what it costs whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import bystanders
from benchmarks.caller import Order, Outcome
from benchmarks.clients import Clients
from benchmarks.worker import Pool, Worker

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.brokers import Broker
    from benchmarks.measurement import Values

CLIENT_CPU = "client"
MAIN_CPU = "worker main"
CHILDREN_CPU = "worker children"
SERVER_CPU = "server"
CPU_SUM = "sum"
CPU_COLUMNS = (CLIENT_CPU, MAIN_CPU, CHILDREN_CPU, SERVER_CPU, CPU_SUM)


@dataclass(frozen=True)
class Called:
    """One measurement: how long each call took, CPU ms per 1,000 tasks and the share of others."""

    took_ms: list[float]
    values: Values
    remarks: list[str]


def call(broker: Broker, pool: Pool, order: Order, directory: Path) -> Called:
    """Call from one process, over one worker that has nothing else to do."""
    settings = broker.settings(result_backend=broker.result_backend)
    with (
        Worker(settings, pool, directory) as worker,
        Clients("benchmarks.caller", settings, order, 1, directory) as clients,
    ):
        machine_before = bystanders.look(broker.link_cpu_s())
        before, server_before = worker.look(), broker.server_cpu_s()
        outcome = Outcome(**clients.go()[0])
        after, server_after = worker.look(), broker.server_cpu_s()
        machine_after = bystanders.look(broker.link_cpu_s())
    spent: Values = {
        CLIENT_CPU: outcome.cpu_s,
        MAIN_CPU: after.main_cpu_s - before.main_cpu_s,
        CHILDREN_CPU: after.children_cpu_s - before.children_cpu_s,
        SERVER_CPU: None if server_before is None or server_after is None else server_after - server_before,
    }
    spent[CPU_SUM] = sum(value for value in spent.values() if value is not None)
    others = bystanders.share(machine_before, machine_after, spent[CPU_SUM] or 0.0)
    tasks = len(outcome.took_ms) * (order.chord_size + 1)
    values: Values = {name: None if s is None else s * 1e6 / tasks for name, s in spent.items()}
    values[bystanders.SHARE] = others
    remarks = bystanders.remarks(others)
    if len(outcome.took_ms) < order.count:
        remarks.append(f"{len(outcome.took_ms)} of {order.count} at the limit")
    if worker.stopped_willingly is not True:
        remarks.append("the worker had to be killed")
    if left := broker.size():
        remarks.append(f"{left} messages were left behind")
        broker.purge()
    return Called(outcome.took_ms, values, remarks)
