"""The only look into `celery.worker`: what Celery ties to the names or to the inside of its own transports.

Nothing here imports the worker: a process that is none has not loaded these modules, and needs nothing.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from .sql import messages as sql

if TYPE_CHECKING:
    from collections.abc import Callable


DRIVER_TYPE = "postgresql"

#: `inspect scheduled` names at most so many of the tasks that the database holds.
HELD_AT_MOST = 1000


def adapt(*, gossip: bool) -> None:
    """Switch on what Celery keeps for drivers on a list: mingle, and gossip if asked for.

    Celery looks at a set of driver names instead of asking what a transport can do.
    """
    _allow("mingle", "Mingle", allowed=True)
    _allow("gossip", "Gossip", allowed=gossip)
    _extend_scheduled()


def _allow(module: str, step: str, *, allowed: bool) -> None:
    loaded = sys.modules.get(f"celery.worker.consumer.{module}")
    names = getattr(getattr(loaded, step, None), "compatible_transports", None)
    if isinstance(names, set):
        (names.add if allowed else names.discard)(DRIVER_TYPE)


def _extend_scheduled() -> None:
    """`inspect scheduled` knows what a worker holds; here the database holds what is not due yet."""
    control = sys.modules.get("celery.worker.control")
    commands: dict[str, Callable[..., Any]] | None = getattr(getattr(control, "Panel", None), "data", None)
    if not commands or getattr(commands.get("scheduled"), "includes_held", False):
        return
    original = commands["scheduled"]

    def scheduled(state: Any, **arguments: Any) -> list[dict[str, Any]]:
        transport = getattr(state.consumer.connection, "transport", None)
        held = _held(transport) if getattr(transport, "driver_type", None) == DRIVER_TYPE else []
        return [*original(state, **arguments), *held]

    scheduled.includes_held = True  # type: ignore[attr-defined]
    commands["scheduled"] = commands["dump_schedule"] = scheduled


def _held(transport: Any) -> list[dict[str, Any]]:
    """What the worker's queues hold for later, in the form of Celery's own answer."""
    if not transport.usable:
        return []
    rows = transport.commands.run((sql.HELD, (transport.intake.queue_ids, HELD_AT_MOST)))[0]
    return [_entry(rows, row) for row in range(rows.count)]


def _entry(rows: Any, row: int) -> dict[str, Any]:
    headers = json.loads(rows.raw(row, 3))
    name = rows.text(row, 1)
    return {
        "eta": headers.get("eta"),
        "priority": rows.integer(row, 6),
        "request": {
            "id": rows.text(row, 2),
            "name": name,
            "args": headers.get("argsrepr"),
            "kwargs": headers.get("kwargsrepr"),
            "type": name,
            "hostname": None,
            "time_start": None,
            "acknowledged": False,
            "delivery_info": {"exchange": rows.text(row, 4), "routing_key": rows.text(row, 5)},
            "worker_pid": None,
        },
    }
