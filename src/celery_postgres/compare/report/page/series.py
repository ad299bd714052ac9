"""How one contender looks everywhere on the page: a colour, a shape and a dash of its own.

Each of the three alone tells contenders apart: for who sees no colours, and for a page on grey paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .markup import Markup, element

if TYPE_CHECKING:
    from celery_postgres.compare.report.model import Report

#: The colours are in `style.css`, for both schemes, as --c0 to --c5.
_COLOURS = 6
_DASHES = (None, "7 3", "2 3", "9 3 2 3", "14 3", "4 2 1 2")
#: Corners of the shapes around 0, 0; the first one is a circle.
_SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (
    (),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.15), (1.1, 0.85), (-1.1, 0.85)),
    ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    ((0, 1.15), (1.1, -0.85), (-1.1, -0.85)),
    ((-1.2, -0.4), (0, -1.3), (1.2, -0.4), (0.75, 1), (-0.75, 1)),
)


@dataclass(frozen=True)
class Series:
    """One contender on the page."""

    name: str
    index: int

    @property
    def css(self) -> str:
        """The class that sets its colour as `color`."""
        return f"c{self.index % _COLOURS}"

    @property
    def dash(self) -> str | None:
        """For `stroke-dasharray`; the seventh has the colour of the first, and another dash."""
        return _DASHES[(self.index + self.index // _COLOURS) % len(_DASHES)]

    def marker(self, x: float, y: float, size: float, css: str = "marker") -> Markup:
        """Its shape around a point."""
        corners = _SHAPES[self.index % len(_SHAPES)]
        if not corners:
            return element("circle", class_=css, cx=x, cy=y, r=size)
        points = " ".join(f"{x + dx * size:.2f},{y + dy * size:.2f}" for dx, dy in corners)
        return element("polygon", class_=css, points=points)

    def label(self) -> Markup:
        """Its name with its shape, within a text."""
        return self._named("glyph", 12, self.marker(6, 6, 3.6))

    def key(self) -> Markup:
        """Its name with its line and its shape, for a legend."""
        line = element("line", class_="line", x1=1, x2=29, y1=6, y2=6, stroke_dasharray=self.dash)
        return self._named("glyph wide", 30, [line, self.marker(15, 6, 3.6)])

    def _named(self, css: str, width: int, drawing: Markup | list[Markup]) -> Markup:
        glyph = element("svg", drawing, class_=css, viewBox=f"0 0 {width} 12", aria_hidden="true")
        return element("span", glyph, element("span", self.name), class_=f"name {self.css}")


def series_of(report: Report) -> dict[str, Series]:
    """All contenders, in the order of the report."""
    return {one.name: Series(one.name, index) for index, one in enumerate(report.contenders)}


def legend(series: list[Series]) -> Markup:
    """Which line is whose."""
    return element("p", [element("span", one.key()) for one in series], class_="legend")
