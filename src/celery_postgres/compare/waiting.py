"""Waiting for what may never come, and for what comes to rest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from .request import Request

_LOOK_EVERY_S = 0.02
_PATIENCE_S = 10.0
_QUICK_S = 2.0

Seen = TypeVar("Seen")


def patience_s(request: Request) -> float:
    """How long a broker gets to give back what a worker held."""
    return _QUICK_S if request.quick else _PATIENCE_S


def until(look: Callable[[], Seen], enough: Callable[[Seen], bool], limit_s: float) -> Seen:
    """What was seen last: enough, or what there was when the time was up."""
    deadline = time.monotonic() + limit_s
    while not enough(seen := look()) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    return seen


def settled(look: Callable[[], Seen], stays_s: float) -> Seen:
    """What was seen when it had stayed the same for so long."""
    seen, since = look(), time.monotonic()
    while time.monotonic() - since < stays_s:
        time.sleep(stays_s / 10)
        if (now := look()) != seen:
            seen, since = now, time.monotonic()
    return seen
