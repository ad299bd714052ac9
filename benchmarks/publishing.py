"""The observer's end of the publishing processes: start together, sum up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import bystanders
from benchmarks.clients import Clients
from benchmarks.counters import between
from benchmarks.publisher import Order, Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.brokers import Broker
    from benchmarks.settings import Settings


@dataclass(frozen=True)
class Published:
    """One measurement of publishing. CPU is in ms per 1,000 messages, None where it cannot be seen."""

    sent: int
    per_s: float
    client_cpu_ms: float
    server_cpu_ms: float | None
    others_percent: float


class Publishers(Clients):
    """Publishing processes."""

    def __init__(self, settings: Settings, order: Order, processes_count: int, directory: Path) -> None:
        super().__init__("benchmarks.publisher", settings, order, processes_count, directory)

    def send(self) -> list[Outcome]:
        """Let all of them send, and wait for the last one."""
        return [Outcome(**said) for said in self.go()]


def publish(broker: Broker, settings: Settings, order: Order, count: int, directory: Path) -> Published:
    """Publish from `count` processes at once and return the sum."""
    with Publishers(settings, order, count, directory) as publishers:
        machine_before, server_before = bystanders.look(broker.link_cpu_s()), broker.server_cpu_s()
        outcomes = publishers.send()
        server_after, machine_after = broker.server_cpu_s(), bystanders.look(broker.link_cpu_s())
    sent = sum(outcome.sent for outcome in outcomes)
    took_ns = max(outcome.last_ns for outcome in outcomes) - min(outcome.first_ns for outcome in outcomes)
    client_s = sum(outcome.cpu_s for outcome in outcomes)
    server_s = between(server_before, server_after)
    return Published(
        sent=sent,
        per_s=sent / (took_ns / 1e9),
        client_cpu_ms=client_s * 1e6 / sent,
        server_cpu_ms=None if server_s is None else server_s * 1e6 / sent,
        others_percent=bystanders.share(machine_before, machine_after, client_s + (server_s or 0.0)),
    )
