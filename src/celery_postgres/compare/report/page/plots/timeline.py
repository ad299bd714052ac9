"""What a fault did to the flow of tasks: how many had ended by then, before and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.compare.report import numerals
from celery_postgres.compare.report.page.markup import Markup, element

from .drawing import WIDTH, horizontal_axis, svg, text, vertical_axis
from .scale import Scale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_postgres.compare.report.model import Behaviour, Situation
    from celery_postgres.compare.report.page.series import Series

_HEIGHT = 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, WIDTH - 12, 22.0, _HEIGHT - 38
_POINTS = 400


def draw(identity: str, situation: Situation, series: Mapping[str, Series]) -> Markup | None:
    """The plot; None if nothing was recorded over time."""
    found = {
        name: behaviour
        for name in series
        if (behaviour := situation.found.get(name)) is not None and behaviour.timeline
    }
    if not found:
        return None
    moments = [at for behaviour in found.values() for at, _ in behaviour.timeline]
    counts = [count for behaviour in found.values() for _, count in behaviour.timeline]
    begin, end = min(*moments, 0.0), max(*moments, 0.0)
    across = Scale(begin, end if end > begin else begin + 1, _LEFT, _RIGHT)
    up = Scale(0, max(counts) * 1.03 or 1, _BOTTOM, _TOP)
    fault = across.at(0)
    return svg(
        identity,
        _HEIGHT,
        f"Tasks over time: {situation.title}",
        " ".join(_described(name, behaviour) for name, behaviour in found.items()),
        horizontal_axis(across, _TOP, _BOTTOM, across.ticks(6)),
        vertical_axis(up, _LEFT, _RIGHT, [(tick, numerals.tick(tick)) for tick in up.ticks()]),
        element("line", class_="fault", x1=fault, x2=fault, y1=_TOP - 8, y2=_BOTTOM),
        text("the fault", fault + 4, _TOP - 9, "label"),
        text("seconds since the fault", _RIGHT, _HEIGHT - 7, anchor="end"),
        [_line(series[name], behaviour, across, up) for name, behaviour in found.items()],
    )


def _line(one: Series, behaviour: Behaviour, across: Scale, up: Scale) -> Markup:
    timeline = behaviour.timeline
    kept = [*timeline[:: max(1, len(timeline) // _POINTS)], timeline[-1]]
    x, y = across.at(kept[0][0]), up.at(kept[0][1])
    path = f"M{x:.1f} {y:.1f}" + "".join(f"H{across.at(at):.1f}V{up.at(count):.1f}" for at, count in kept[1:])
    parts = [
        element("path", class_="line", d=path, stroke_dasharray=one.dash),
        one.marker(across.at(kept[-1][0]), up.at(kept[-1][1]), 3.8),
    ]
    if behaviour.seconds is not None and across.low <= behaviour.seconds <= across.high:
        count = max((count for at, count in timeline if at <= behaviour.seconds), default=0)
        parts.append(one.marker(across.at(behaviour.seconds), up.at(count), 3.8))
    return element("g", parts, class_=one.css)


def _described(name: str, behaviour: Behaviour) -> str:
    before = max((count for at, count in behaviour.timeline if at <= 0), default=0)
    at, count = behaviour.timeline[-1]
    return f"{name}: {before} tasks had ended before the fault, {count} after {numerals.seconds(at)}."
