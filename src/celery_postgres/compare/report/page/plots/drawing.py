"""The paper of a plot: its size, its axes, and what it says to those who do not see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.compare.report import numerals
from celery_postgres.compare.report.page.markup import Markup, element

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .scale import Scale

#: All plots are drawn this wide; the page makes them as wide as there is room.
WIDTH = 380.0
_ABOVE_TICK = 13.0


def svg(
    identity: str, height: float, title: str, described: str, *parts: Iterable[Markup] | Markup
) -> Markup:
    """A drawing with a name and a description. `identity` is unique on the page."""
    return element(
        "svg",
        element("title", title, id=f"{identity}-title"),
        element("desc", described, id=f"{identity}-desc"),
        *parts,
        class_="plot",
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        aria_labelledby=f"{identity}-title",
        aria_describedby=f"{identity}-desc",
    )


def text(said: str, x: float, y: float, css: str = "tick", anchor: str | None = None) -> Markup:
    """A line of text; `anchor` is middle or end, the start without it."""
    return element("text", said, class_=css, x=x, y=y, text_anchor=anchor)


def horizontal_axis(scale: Scale, top: float, bottom: float, ticks: Sequence[float]) -> list[Markup]:
    """Ticks below, and a thin line up from each."""
    return [
        part
        for tick in ticks
        for part in (
            element("line", class_="grid", x1=scale.at(tick), x2=scale.at(tick), y1=top, y2=bottom),
            text(numerals.tick(tick), scale.at(tick), bottom + _ABOVE_TICK, anchor="middle"),
        )
    ]


def vertical_axis(
    scale: Scale, left: float, right: float, ticks: Sequence[tuple[float, str]]
) -> list[Markup]:
    """Ticks with their words at the left, and a thin line from each."""
    return [
        part
        for tick, said in ticks
        for part in (
            element("line", class_="grid", x1=left, x2=right, y1=scale.at(tick), y2=scale.at(tick)),
            text(said, left - 5, scale.at(tick) + 4, anchor="end"),
        )
    ]
