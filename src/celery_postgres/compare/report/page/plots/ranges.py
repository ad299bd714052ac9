"""One measure: a bar to the median of each contender, the range of the rounds, and each single round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.compare.report import numerals
from celery_postgres.compare.report.page.markup import Markup, element

from .drawing import WIDTH, horizontal_axis, svg, text
from .scale import LogScale, Scale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_postgres.compare.report.conclusion import Conclusion, Standing
    from celery_postgres.compare.report.page.series import Series

_ROW = 38.0
_TOP = 4.0
_MARGIN = 8.0
_FOR_AXIS = 20.0
_LONGEST_NAME = 26
#: Beyond this ratio of the largest to the smallest a straight scale hides the small ones.
_STRAIGHT_UP_TO = 40.0


def draw(identity: str, conclusion: Conclusion, series: Mapping[str, Series]) -> Markup:
    """The plot. Its bars start at 0; on a logarithmic scale, which has none, there are no bars."""
    divisor, unit = numerals.scale(conclusion)
    scale = _scale(conclusion, divisor)
    bottom = _TOP + _ROW * len(conclusion.standings)
    logarithmic = isinstance(scale, LogScale)
    described = [_described(standing, divisor, unit) for standing in conclusion.standings]
    if logarithmic:
        described.append("The scale is logarithmic.")
    return svg(
        identity,
        bottom + _FOR_AXIS,
        conclusion.measure.title,
        " ".join(described),
        horizontal_axis(scale, _TOP + 14, bottom, scale.ticks()),
        [
            _row(standing, conclusion, series[standing.contender], scale, divisor, _TOP + _ROW * index)
            for index, standing in enumerate(conclusion.standings)
        ],
    )


def is_logarithmic(conclusion: Conclusion) -> bool:
    """Whether the contenders lie too far apart for bars."""
    low = min(standing.spread.low for standing in conclusion.standings)
    high = max(standing.spread.high for standing in conclusion.standings)
    return low > 0 and high / low > _STRAIGHT_UP_TO


def _scale(conclusion: Conclusion, divisor: float) -> Scale:
    low = min(standing.spread.low for standing in conclusion.standings) / divisor
    high = max(standing.spread.high for standing in conclusion.standings) / divisor
    if is_logarithmic(conclusion):
        return LogScale(low / 1.2, high * 1.1, _MARGIN, WIDTH - _MARGIN)
    return Scale(min(0.0, low), high * 1.02 or 1.0, _MARGIN, WIDTH - _MARGIN)


def _row(
    standing: Standing, conclusion: Conclusion, one: Series, scale: Scale, divisor: float, top: float
) -> Markup:
    spread = standing.spread
    middle = top + 26
    low, median, high = (scale.at(value / divisor) for value in (spread.low, spread.median, spread.high))
    leads = standing.contender in conclusion.leaders
    parts = [
        one.marker(_MARGIN + 4, top + 10, 3.6),
        text(_short(one.name), _MARGIN + 13, top + 14, "label strong" if leads else "label"),
        _value(standing, divisor, top + 14),
        element("line", class_="track", x1=_MARGIN, x2=WIDTH - _MARGIN, y1=middle, y2=middle),
    ]
    if not isinstance(scale, LogScale):
        start = scale.at(0)
        parts.append(
            element("rect", class_="bar", x=start, y=middle - 5, width=max(0.0, median - start), height=10)
        )
    parts.append(element("line", class_="range", x1=low, x2=high, y1=middle, y2=middle))
    parts += [
        element("circle", class_="round", cx=scale.at(value / divisor), cy=middle, r=2.6)
        for value in conclusion.measure.rounds[one.name]
    ]
    parts.append(element("rect", class_="median", x=median - 1.25, y=middle - 8, width=2.5, height=16))
    return element("g", parts, class_=one.css)


def _value(standing: Standing, divisor: float, y: float) -> Markup:
    """The median, and the range paler."""
    shown = numerals.spread(standing.spread, divisor, numerals.DASH)
    return element(
        "text",
        element("tspan", numerals.number(standing.spread.median / divisor), class_="value"),
        element("tspan", shown, class_="faint", dx=5) if shown else None,
        class_="label",
        x=WIDTH - _MARGIN,
        y=y,
        text_anchor="end",
    )


def _short(name: str) -> str:
    """As much of a name as there is room for beside the figures; the description has all of it."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _described(standing: Standing, divisor: float, unit: str) -> str:
    spread = standing.spread
    median = f"{standing.contender}: {numerals.number(spread.median / divisor)} {unit}"
    if spread.rounds == 1:
        return f"{median} in one round."
    low, high = numerals.number(spread.low / divisor), numerals.number(spread.high / divisor)
    return f"{median}, {low} to {high} in {spread.rounds} rounds."
