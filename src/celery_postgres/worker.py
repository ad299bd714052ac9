"""The only look into `celery.worker`: what Celery ties to the names or to the inside of its own transports.

Nothing here imports the worker: a process that is none has not loaded these modules, and needs nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .delivery import read_json
from .dsn import mask
from .liveness import Role
from .sql import messages as sql

if TYPE_CHECKING:
    from collections.abc import Callable

    from .encoding import Rows

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
    _never_wait_for_heartbeats()
    _keep_mailbox()
    _keep_handed_over()
    _veil_broker()


def is_worker() -> bool:
    """Whether this process is a worker, or a child of one."""
    return role().node is not None


def _is_ours(connection: Any) -> bool:
    return getattr(getattr(connection, "transport", None), "driver_type", None) == DRIVER_TYPE


def _never_wait_for_heartbeats() -> None:
    """Celery repeats a heartbeat that cannot be sent until it can, inside the loop, which stands still then.

    Without that it keeps it for later, as it does with every other event.
    """
    loaded = sys.modules.get("celery.worker.heartbeat")
    heart = getattr(loaded, "Heart", None)
    original = getattr(heart, "_send", None)
    if heart is None or original is None or getattr(original, "knows_outages", False):
        return

    def _send(self: Any, event: str, retry: bool = True) -> Any:
        return original(self, event, retry=retry and not _is_ours(getattr(self.eventer, "connection", None)))

    _send.knows_outages = True  # type: ignore[attr-defined]
    heart._send = _send  # noqa: SLF001


def _keep_mailbox() -> None:
    """Celery opens its mailbox anew when an answer could not be sent, and fails if that cannot be done.

    A channel of ours stays usable after an error, so there is nothing to open anew.
    """
    loaded = sys.modules.get("celery.worker.pidbox")
    for name in ("Pidbox", "gPidbox"):
        mailbox = getattr(loaded, name, None)
        original = vars(mailbox).get("reset") if mailbox is not None else None
        if mailbox is None or original is None or getattr(original, "knows_outages", False):
            continue
        mailbox.reset = _reset_unless_ours(original)


def _reset_unless_ours(original: Callable[[Any], None]) -> Callable[[Any], None]:
    def reset(self: Any) -> None:
        connection = getattr(self.c, "connection", None)
        if connection is None or not _is_ours(connection) or not connection.transport.usable:
            original(self)

    reset.knows_outages = True  # type: ignore[attr-defined]
    return reset


def _keep_handed_over() -> None:
    """When a worker ends, Celery's prefork pool forgets the tasks of which no child has said that it began.

    A child that was handed one runs it all the same. Nobody reads then that it is done: the child waits for
    that for half a minute, the worker for the child, and a late acknowledgement never comes.
    """
    loaded = sys.modules.get("celery.concurrency.asynpool")
    pool = getattr(loaded, "AsynPool", None)
    original = getattr(pool, "flush", None)
    if pool is None or original is None or getattr(original, "knows_handed_over", False):
        return

    def flush(self: Any) -> None:
        kept = [job for job in tuple(self._cache.values()) if _is_handed_over(job, self)]
        for job in kept:
            job.discard = _stay
        try:
            original(self)
        finally:
            for job in kept:
                del job.discard
                _forget_unless_alive(job, self)

    flush.knows_handed_over = True  # type: ignore[attr-defined]
    pool.flush = flush


def _is_handed_over(job: Any, pool: Any) -> bool:
    """Whether a child that lives has all of it."""
    writer = getattr(job, "_writer", lambda: None)()  # a weak reference
    child = getattr(job, "_write_to", None)
    begun = child is not None and child._is_alive() and job not in pool.outbound_buffer  # noqa: SLF001
    return begun and writer not in pool._active_writers  # noqa: SLF001


def _forget_unless_alive(job: Any, pool: Any) -> None:
    """A job whose child has died meanwhile is its broker's again; that of another one keeps it busy."""
    if job._accepted:  # noqa: SLF001
        return
    if job._write_to._is_alive():  # noqa: SLF001
        pool._busy_workers.add(job._write_to.inqW_fd)  # noqa: SLF001
    else:
        job.discard()


def _stay() -> None:
    """In place of a job's `discard`."""


def role() -> Role:
    """Whose consumer this is: the worker's name and pool, as far as Celery has loaded them."""
    trace = sys.modules.get("celery.app.trace")
    localized: Any = getattr(trace, "_localized", None) or ()
    node = localized[2] if len(localized) > 2 and isinstance(localized[2], str) else None
    # The prefork pool's module comes last: Celery also loads it to count processors.
    pools = {"gevent": "gevent", "eventlet": "eventlet", "solo": "solo", "thread": "threads"}
    loaded = [pool for module, pool in pools.items() if f"celery.concurrency.{module}" in sys.modules]
    if not loaded and "celery.concurrency.prefork" in sys.modules:
        loaded = ["prefork"]
    return Role(node, loaded[0] if node and loaded else None)


def _allow(module: str, step: str, *, allowed: bool) -> None:
    loaded = sys.modules.get(f"celery.worker.consumer.{module}")
    names = getattr(getattr(loaded, step, None), "compatible_transports", None)
    if isinstance(names, set):
        (names.add if allowed else names.discard)(DRIVER_TYPE)


def _veil_broker() -> None:
    """`inspect stats` tells where the broker is, and for a transport that reads URLs itself it tells all
    of the URL: so the password, to everybody who may ask.
    """
    loaded = sys.modules.get("celery.worker.consumer.connection")
    step = getattr(loaded, "Connection", None)
    original = getattr(step, "info", None)
    if step is None or original is None or getattr(original, "veils", False):
        return

    def info(self: Any, consumer: Any) -> dict[str, Any]:
        told: dict[str, Any] = original(self, consumer)
        if _is_ours(consumer.connection):
            told["broker"] = _veiled(told.get("broker"))
        return told

    info.veils = True  # type: ignore[attr-defined]
    step.info = info


def _veiled(value: Any) -> Any:
    """The same with every URL in it masked."""
    if isinstance(value, dict):
        return {key: _veiled(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_veiled(one) for one in value]
    return mask(value) if isinstance(value, str) and "://" in value else value


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
        if _is_ours(self.connection) and self.hub and type(self.pool).__module__ == "celery.concurrency.solo":
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
