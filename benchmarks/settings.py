"""What a worker or a publisher of a measurement is told, through one environment variable."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any

VARIABLE = "CELERY_POSTGRES_BENCHMARK"

PERSISTENT = 2
TRANSIENT = 1


@dataclass(frozen=True)
class Settings:
    """One Celery application: its broker, its queue, and where its tasks record their start.

    `record_path` empty means that nothing is recorded: publishers run no tasks.
    `hold_path` is the file for which a task waits that is to be running when its worker is killed.
    `result_backend` empty means that no results are kept.
    """

    broker_url: str
    queue: str
    transport_options: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    delivery_mode: int = PERSISTENT
    prefetch_multiplier: int = 4
    acks_late: bool = False
    task_ms: float = 0.0
    record_path: str = ""
    hold_path: str = ""
    result_backend: str = ""

    def changed(self, **changes: Any) -> Settings:
        """Return a copy with these fields replaced."""
        return replace(self, **changes)

    def environment(self) -> dict[str, str]:
        """Return the environment of a child process that is to read these settings."""
        return {**os.environ, VARIABLE: json.dumps(asdict(self))}

    def celery(self) -> dict[str, Any]:
        """Return the Celery configuration.

        Every name that the application leaves on a broker starts with the queue's,
        so that it meets no other application there and can be removed afterwards.
        """
        return {
            "broker_url": self.broker_url,
            "broker_transport_options": self.transport_options,
            "broker_connection_retry_on_startup": True,
            "control_exchange": self.queue,
            "event_exchange": f"{self.queue}.events",
            "event_queue_prefix": self.queue,
            "task_default_queue": self.queue,
            "task_default_delivery_mode": self.delivery_mode,
            "task_acks_late": self.acks_late,
            "task_ignore_result": not self.result_backend,
            "result_backend": self.result_backend or None,
            "worker_prefetch_multiplier": self.prefetch_multiplier,
            **self.configuration,
        }


def from_environment() -> Settings:
    """Read what `Settings.environment` wrote; KeyError outside of a measurement."""
    return Settings(**json.loads(os.environ[VARIABLE]))
