"""Remote control: the worker's mailbox, and what it answers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from celery_postgres.delivery import read_json
from celery_postgres.dsn import mask
from celery_postgres.sql import messages as sql

from .replacing import is_ours, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_postgres.encoding import Rows

#: `inspect scheduled` names at most so many of the tasks that the database holds.
HELD_AT_MOST = 1000

#: Of longer bodies it names the arguments as their sender wrote them out, cut off.
HELD_BODY_AT_MOST = 8192

#: In Celery's answer this is the timer's priority, which is the same for all tasks.
TIMER_PRIORITY = 6


def adapt() -> None:
    for mailbox in ("Pidbox", "gPidbox"):
        replace("celery.worker.pidbox", mailbox, "reset", _keep)
    replace("celery.worker.consumer.connection", "Connection", "info", _veil_broker)
    _extend_scheduled()


def _keep(original: Callable[[Any], None]) -> Callable[[Any], None]:
    """Celery opens its mailbox anew when an answer could not be sent, and fails if that cannot be done.

    A channel of ours stays usable after an error, so there is nothing to open anew.
    """

    def reset(self: Any) -> None:
        connection = getattr(self.c, "connection", None)
        if connection is None or not is_ours(connection) or not connection.transport.usable:
            original(self)

    return reset


def _veil_broker(original: Callable[..., Any]) -> Callable[..., Any]:
    """`inspect stats` tells where the broker is, and for a transport that reads URLs itself it tells all
    of the URL: so the password, to everybody who may ask.
    """

    def info(self: Any, consumer: Any) -> dict[str, Any]:
        told: dict[str, Any] = original(self, consumer)
        if is_ours(consumer.connection):
            told["broker"] = _veiled(told.get("broker"))
        return told

    return info


def _veiled(value: Any) -> Any:
    """The same with every URL in it masked."""
    if isinstance(value, dict):
        return {key: _veiled(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_veiled(one) for one in value]
    return mask(value) if isinstance(value, str) and "://" in value else value


def _extend_scheduled() -> None:
    """`inspect scheduled` knows what a worker holds; here the database holds what is not due yet."""
    control = sys.modules.get("celery.worker.control")
    commands: dict[str, Callable[..., Any]] | None = getattr(getattr(control, "Panel", None), "data", None)
    if not commands or getattr(commands.get("scheduled"), "includes_held", False):
        return
    original = commands["scheduled"]

    def scheduled(state: Any, **arguments: Any) -> list[dict[str, Any]]:
        connection = state.consumer.connection
        held = _held(connection.transport) if is_ours(connection) else []
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
