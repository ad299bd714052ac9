"""The only look into `celery.worker`: what Celery ties to the names or to the inside of its own transports.

Nothing here imports the worker: a process that is none has not loaded these modules, and needs nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .delivery import read_json
from .sql import messages as sql

if TYPE_CHECKING:
    from collections.abc import Callable

    from .wire import Rows

DRIVER_TYPE = "postgresql"

#: `inspect scheduled` names at most so many of the tasks that the database holds.
HELD_AT_MOST = 1000

#: Of longer bodies it names the arguments as their sender wrote them out, cut off.
HELD_BODY_AT_MOST = 8192

#: In Celery's answer this is the timer's priority, which is the same for all tasks.
TIMER_PRIORITY = 6


def adapt(*, gossip: bool) -> None:
    """Switch on what Celery keeps for drivers on a list: mingle, and gossip if asked for.

    Celery looks at a set of driver names instead of asking what a transport can do.
    """
    _allow("mingle", "Mingle", allowed=True)
    _allow("gossip", "Gossip", allowed=gossip)
    _extend_scheduled()
    _acknowledge_before_solo_tasks()


def _allow(module: str, step: str, *, allowed: bool) -> None:
    loaded = sys.modules.get(f"celery.worker.consumer.{module}")
    names = getattr(getattr(loaded, step, None), "compatible_transports", None)
    if isinstance(names, set):
        (names.add if allowed else names.discard)(DRIVER_TYPE)


def _acknowledge_before_solo_tasks() -> None:
    """Celery leaves an early acknowledgement to the loop's next step, and a solo task runs inside the loop.

    So it would come after the task, and a worker that is killed meanwhile would find the task again.
    """
    loaded = sys.modules.get("celery.worker.consumer.consumer")
    consumer = getattr(loaded, "Consumer", None)
    original = getattr(consumer, "call_soon_ack", None)
    if consumer is None or original is None or getattr(original, "knows_solo", False):
        return

    def call_soon_ack(self: Any, settle: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        ours = getattr(getattr(self.connection, "transport", None), "driver_type", None) == DRIVER_TYPE
        if ours and self.hub and type(self.pool).__module__ == "celery.concurrency.solo":
            return settle(*arguments, **options)
        return original(self, settle, *arguments, **options)

    call_soon_ack.knows_solo = True  # type: ignore[attr-defined]
    consumer.call_soon_ack = call_soon_ack


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
    call = sql.HELD, (transport.intake.queue_ids, HELD_AT_MOST, HELD_BODY_AT_MOST)
    rows = transport.commands.run(call)[0]
    return [_entry(rows, row) for row in range(rows.count)]


def _entry(rows: Rows, row: int) -> dict[str, Any]:
    headers = read_json(rows.raw(row, 2) or b"{}")
    properties = read_json(rows.raw(row, 3) or b"{}")
    name = rows.text(row, 0)
    args, kwargs = _arguments(rows.raw(row, 7), headers)
    return {
        "eta": headers.get("eta"),
        "priority": TIMER_PRIORITY,
        "request": {
            "id": rows.text(row, 1),
            "name": name,
            "args": args,
            "kwargs": kwargs,
            "type": name,
            "hostname": None,
            "time_start": None,
            "acknowledged": False,
            "delivery_info": {
                "exchange": rows.text(row, 4) or "",
                "routing_key": rows.text(row, 5) or "",
                "priority": properties.get("priority"),
                "redelivered": rows.flag(row, 6),
            },
            "worker_pid": None,
        },
    }


def _arguments(body: bytes | None, headers: dict[str, Any]) -> tuple[Any, Any]:
    """The arguments themselves where they are short and plain JSON, else as the sender wrote them out."""
    if body is not None:
        try:
            args, kwargs, _ = read_json(body)
        except (TypeError, ValueError):  # compressed, or no task of Celery's
            pass
        else:
            return args, kwargs
    return headers.get("argsrepr"), headers.get("kwargsrepr")
