"""How single values are distributed: which share of them is no larger than so much.

The share is drawn so that there is as much room from 90 to 99 % as from 0 to 90 %: what hurts is the tail.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from celery_postgres.compare.report import numerals
from celery_postgres.compare.report.page.markup import Markup, element
from celery_postgres.compare.report.statistics import percentile

from .drawing import WIDTH, horizontal_axis, svg, text, vertical_axis
from .scale import LogScale, Scale, TailScale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celery_postgres.compare.report.model import Measure
    from celery_postgres.compare.report.page.series import Series

_HEIGHT = 270.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, WIDTH - 12, 12.0, _HEIGHT - 38
_SHARES = (0.0, 0.5, 0.95, 0.99, 0.999, 0.9999)
#: Where the lines have a marker, and which are read out.
_MARKED = (50, 95, 99)
_POINTS = 200
_PERCENTILE = re.compile(r"[, ]*(p\d+|median)$")


def draw(identity: str, measure: Measure, series: Mapping[str, Series]) -> Markup | None:
    """The plot of a measure's single values; None if there are too few for a distribution."""
    ranked = {name: sorted(values) for name in series if len(values := measure.samples.get(name, [])) > 1}
    if not ranked:
        return None
    across = _across(ranked)
    most = max(map(len, ranked.values()))
    up = TailScale(0, _share(most - 1, most), _BOTTOM, _TOP)
    shares = [(share, f"{100 * share:.4g} %") for share in _SHARES if share <= up.high]
    return svg(
        identity,
        _HEIGHT,
        title(measure),
        " ".join(_described(name, values, measure.unit) for name, values in ranked.items()),
        horizontal_axis(across, _TOP, _BOTTOM, across.ticks(6)),
        vertical_axis(up, _LEFT, _RIGHT, shares),
        text(f"{measure.unit}, logarithmic", _RIGHT, _HEIGHT - 7, anchor="end"),
        [_line(series[name], values, across, up) for name, values in ranked.items()],
    )


def title(measure: Measure) -> str:
    """What is distributed: all values, whichever percentile the measure itself is."""
    return f"Distribution: {_PERCENTILE.sub('', measure.title)}"


def _across(ranked: Mapping[str, Sequence[float]]) -> Scale:
    low = min(next((value for value in values if value > 0), values[-1]) for values in ranked.values())
    high = max(values[-1] for values in ranked.values())
    if low <= 0:
        return Scale(low, high if high > low else low + 1, _LEFT, _RIGHT)
    return LogScale(low / 1.05, high * 1.05, _LEFT, _RIGHT)


def _line(one: Series, ranked: Sequence[float], across: Scale, up: Scale) -> Markup:
    count = len(ranked)
    # All of the tail, and as much of the rest as can be seen.
    tail = range(max(0, count - _POINTS // 2), count)
    indexes = sorted({*range(0, count, max(1, count // _POINTS)), *tail})
    least = ranked[0] if not isinstance(across, LogScale) else across.low
    points = [
        f"{across.at(max(least, ranked[index])):.1f},{up.at(_share(index, count)):.1f}" for index in indexes
    ]
    markers = [
        one.marker(across.at(max(least, percentile(ranked, percent))), up.at(percent / 100), 3.8)
        for percent in _MARKED
        if percent / 100 <= _share(count - 1, count)
    ]
    line = element("polyline", class_="line", points=" ".join(points), stroke_dasharray=one.dash)
    return element("g", line, markers, class_=one.css)


def _share(index: int, count: int) -> float:
    """The share of the values up to this one: half of it counts, so that the last one is not at 1."""
    return (index + 0.5) / count


def _described(name: str, ranked: Sequence[float], unit: str) -> str:
    said = ", ".join(
        f"{percent} % within {numerals.number(percentile(ranked, percent))} {unit}" for percent in _MARKED
    )
    return f"{name}, {len(ranked)} values: {said}."
