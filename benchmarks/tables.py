"""Measurements as Markdown tables: peers downwards, cells or values across."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.statistics import Spread, ratios

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.measurement import Measurement

_NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """A title, a head and rows, all of text."""

    title: str
    head: list[str]
    rows: list[list[str]]

    def __str__(self) -> str:
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        text = [
            "| " + " | ".join(field.ljust(width) for field, width in zip(line, widths, strict=True)) + " |"
            for line in lines
        ]
        text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([self.title, "", *text])


def by_cell(title: str, measurements: Sequence[Measurement], value: str) -> Table:
    """Show one value of every peer in every cell: median [min-max] of the rounds."""
    cells = _in_order(m.cell for m in measurements)
    return Table(
        title,
        ["", *cells],
        [
            [peer, *(_spread(list(_rounds(measurements, peer, cell, value).values())) for cell in cells)]
            for peer in _in_order(m.peer for m in measurements)
        ],
    )


def by_ratio(title: str, measurements: Sequence[Measurement], value: str, baseline: str) -> Table:
    """Show the same as ratios to one peer, formed within each round."""
    cells = _in_order(m.cell for m in measurements)
    rows = []
    for peer in _in_order(m.peer for m in measurements):
        row = [peer]
        for cell in cells:
            ratio = ratios(
                _rounds(measurements, peer, cell, value), _rounds(measurements, baseline, cell, value)
            )
            row.append(_NOTHING if ratio is None else _shown(ratio))
        rows.append(row)
    return Table(title, ["", *cells], rows)


def by_first_cell(title: str, measurements: Sequence[Measurement], value: str) -> list[Table]:
    """Show the cells of each peer as ratios to its own first one, within each round; no table of one."""
    first, *others = _in_order(m.cell for m in measurements)
    if not others:
        return []
    rows = []
    for peer in _in_order(m.peer for m in measurements):
        base = _rounds(measurements, peer, first, value)
        found = [ratios(_rounds(measurements, peer, cell, value), base) for cell in others]
        rows.append([peer, *(_NOTHING if ratio is None else _shown(ratio) for ratio in found)])
    return [Table(f"{title}, as a ratio to the same peer's {first}", ["", *others], rows)]


def by_value(title: str, measurements: Sequence[Measurement], cell: str, values: Sequence[str]) -> Table:
    """Show several values of every peer in one cell."""
    return Table(
        title,
        ["", *values],
        [
            [peer, *(_spread(list(_rounds(measurements, peer, cell, value).values())) for value in values)]
            for peer in _in_order(m.peer for m in measurements if m.cell == cell)
        ],
    )


def by_period(title: str, measurements: Sequence[Measurement], peer: str, values: Sequence[str]) -> Table:
    """Show several values of one peer, a line for each of its cells."""
    return Table(
        title,
        ["", *values],
        [
            [cell, *(_spread(list(_rounds(measurements, peer, cell, value).values())) for value in values)]
            for cell in _in_order(m.cell for m in measurements if m.peer == peer)
        ],
    )


def cells_of(measurements: Sequence[Measurement]) -> list[str]:
    """Return the cells in the order of their first measurement."""
    return _in_order(m.cell for m in measurements)


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _rounds(measurements: Sequence[Measurement], peer: str, cell: str, value: str) -> dict[int, float]:
    """The value in each round in which it could be observed."""
    return {
        m.round: found
        for m in measurements
        if m.peer == peer and m.cell == cell and (found := m.values.get(value)) is not None
    }


def _spread(values: list[float]) -> str:
    return _shown(Spread.of(values)) if values else _NOTHING


def _shown(spread: Spread) -> str:
    if spread.rounds == 1:
        return _number(spread.median)
    return f"{_number(spread.median)} [{_number(spread.low)}-{_number(spread.high)}]"


def _number(value: float) -> str:
    """Three digits are more than the spread supports."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
