"""How a method of Celery's is replaced by one that knows our transport, for our connections alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

DRIVER_TYPE = "postgresql"

#: How long the worker's loop waits, in seconds, until an event or an answer to a command is stored.
PATIENCE = 0.5


def is_ours(connection: Any) -> bool:
    return getattr(getattr(connection, "transport", None), "driver_type", None) == DRIVER_TYPE


def replace(module: str, owner: str, name: str, make: Callable[[Callable[..., Any]], Any]) -> None:
    """Put `make(original)` in the place of a class's own method, once, if its module is loaded.

    A process that is no worker has not loaded the module, and needs nothing.
    """
    found = getattr(sys.modules.get(module), owner, None)
    original = vars(found).get(name) if found is not None else None
    if found is None or original is None or hasattr(original, "replaces"):
        return
    replacement = make(original)
    replacement.replaces = original
    setattr(found, name, replacement)
