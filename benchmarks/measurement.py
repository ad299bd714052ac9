"""One measured cell of one round, and the order in which cells are measured."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from benchmarks.clients import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.brokers import Broker

Cell = TypeVar("Cell")

# A figure by its name; None where it could not be observed.
Values = dict[str, "float | None"]


@dataclass(frozen=True)
class Measurement:
    """What one peer did in one cell (a pool, a number of processes) of one round.

    A measurement that failed has no values, and its first remark says why.
    """

    peer: str
    cell: str
    round: int
    values: Values
    remarks: list[str] = field(default_factory=list)


def interleave(
    rounds: int,
    cells: Sequence[Cell],
    peers_of: Callable[[Cell], Iterable[Broker]],
    measure: Callable[[Broker, Cell], tuple[Values, list[str]]],
) -> list[Measurement]:
    """Measure A B C A B C …: a round has every peer once per cell, peers next to each other.

    So whatever the machine does meanwhile falls on all of them. Progress goes to standard error.
    """
    taken = []
    for number in range(1, rounds + 1):
        for cell in cells:
            for broker in peers_of(cell):
                began = time.monotonic()
                try:
                    values, remarks = measure(broker, cell)
                except MeasurementError as error:
                    values, remarks = {}, [f"failed: {error}"]
                taken.append(Measurement(broker.peer.name, str(cell), number, values, remarks))
                shown = ", ".join(
                    f"{name} {value:.4g}" for name, value in values.items() if value is not None
                )
                print(
                    f"round {number} {cell} {broker.peer.name}: {shown}"
                    f" ({time.monotonic() - began:.0f} s){''.join(f' [{remark}]' for remark in remarks)}",
                    file=sys.stderr,
                )
    return taken
