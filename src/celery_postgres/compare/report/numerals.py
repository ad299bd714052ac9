"""How quantities are written for people: three digits, thousands apart, units of a fitting size."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conclusion import Conclusion
    from .statistics import Spread

#: Between the ends of a range, and where there is nothing, on paper; the terminal has a hyphen.
DASH = "\N{EN DASH}"

_BYTES = "bytes"
_LARGER = ("kB", "MB", "GB", "TB")
_STEP = 1000


def number(value: float) -> str:
    """Three digits are more than the spread of most measures supports; whole numbers have no others."""
    if abs(value) >= 99.95 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:#.3g}" if abs(value) >= 0.001 else f"{value:.1e}"


def tick(value: float) -> str:
    """The same on an axis, where the round values have no more digits than they need."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def seconds(value: float) -> str:
    """A duration: 0.31 s, 2.4 s, 42 s, 6 min 10 s."""
    if value < 9.95:
        return f"{value:.2g} s"
    if value < 59.5:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def scale(conclusion: Conclusion) -> tuple[float, str]:
    """What to divide the values of a measure by, and the unit that they have then: bytes, kB, MB."""
    unit, divisor = conclusion.measure.unit, 1.0
    if not unit.startswith(_BYTES):
        return divisor, unit
    shown = _BYTES
    largest = max(standing.spread.median for standing in conclusion.standings)
    for larger in _LARGER:
        if largest < _STEP * divisor:
            break
        shown, divisor = larger, divisor * _STEP
    return divisor, shown + unit.removeprefix(_BYTES)


def spread(found: Spread, divisor: float = 1.0, dash: str = "-") -> str:
    """The range of the rounds: lowest to highest; empty where they are all the same."""
    low, high = number(found.low / divisor), number(found.high / divisor)
    return "" if low == high else f"[{low}{dash}{high}]"
