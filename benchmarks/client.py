"""The other end of `clients.py`: a process that is told what to do in JSON, on its command line.

It warms up, says so, waits for a line on its standard input, does it, and prints what that took.
So several can start together, and the observer can look at the server's clock in between.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import DataclassInstance


def ordered() -> dict[str, Any]:
    """Return the order of the command line."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    return order


def follow(warm_up: Callable[[], None], work: Callable[[], DataclassInstance]) -> None:
    """Warm up, and work when told to."""
    warm_up()
    print("ready", flush=True)
    if sys.stdin.readline():
        print(json.dumps(asdict(work())), flush=True)
        # The connection stays until the observer has looked at the server.
        sys.stdin.readline()
