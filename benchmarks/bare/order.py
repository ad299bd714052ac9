"""What a process of this folder is told."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Order:
    """`settings` are the queue's own, by the names that its documentation gives them."""

    url: str
    queue: str
    count: int
    record_path: str
    settings: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return it as an argument of a command line."""
        return json.dumps(asdict(self))


def follow(fill: Callable[[Order], None], consume: Callable[[Order], None]) -> None:
    """Do what the command line says."""
    verb, text = sys.argv[1:]
    {"fill": fill, "consume": consume}[verb](Order(**json.loads(text)))
