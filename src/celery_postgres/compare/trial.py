"""One thing that is done to every contender, to see what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from .arena import Arena
    from .request import Request

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Trial(Generic[Outcome]):
    """`observe` raises Failure only where the contender itself fails: a worker does not start, it is gone."""

    key: str
    title: str
    what: str
    """What is done, in a sentence."""
    seconds: float
    """How long it takes for one contender, roughly."""
    observe: Callable[[Arena, Request], Outcome]
    alone: bool = False
    """Whether it disturbs others, who may be on the same server."""
