"""The only look into `celery.worker`: what Celery ties to the names or to the inside of its own transports.

Nothing here imports the worker: a process that is none has not loaded these modules, and needs nothing.
"""

from __future__ import annotations

import sys
from typing import Any

from celery_postgres.liveness import Role

from . import events, mailbox, tasks
from .replacing import DRIVER_TYPE, PATIENCE

__all__ = ["PATIENCE", "adapt", "is_at_work", "is_worker", "role"]


def adapt(*, gossip: bool) -> None:
    """Switch on what Celery keeps for drivers on a list: mingle, and gossip if asked for.

    Celery looks at a set of driver names instead of asking what a transport can do. The rest is in the
    modules beside this one, each for what it names.
    """
    _allow("mingle", "Mingle", allowed=True)
    _allow("gossip", "Gossip", allowed=gossip)
    events.adapt()
    mailbox.adapt()
    tasks.adapt()


def is_worker() -> bool:
    """Whether this process is a worker, or a child of one."""
    return role().node is not None


def is_at_work() -> bool:
    """Whether this worker executes a task, or is about to: it may have acknowledged it already."""
    state = sys.modules.get("celery.worker.state")
    return bool(getattr(state, "reserved_requests", ()))


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
