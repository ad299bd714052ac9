"""Tables whose cells know their heads, in a box of their own to be scrolled in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .markup import Markup, element

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .markup import Child


def table(label: str, head: Sequence[Markup], rows: Iterable[Markup], css: str | None = None) -> Markup:
    """A table; `label` says what it is to those who do not see it. `column` and `row` make what is in it."""
    return _boxed(label, head, [element("tbody", rows)], css)


def grouped(
    label: str,
    head: Sequence[Markup],
    groups: Iterable[tuple[Child, Iterable[Markup]]],
    css: str | None = None,
) -> Markup:
    """A table in which groups of rows have a head of their own."""
    bodies = []
    for title, rows in groups:
        over = element("th", element("span", title), scope="rowgroup", colspan=len(head))
        bodies.append(element("tbody", element("tr", over, class_="over-rows"), rows))
    return _boxed(label, head, bodies, css)


def _boxed(label: str, head: Sequence[Markup], bodies: Sequence[Markup], css: str | None) -> Markup:
    whole = element("table", element("thead", element("tr", head)), bodies, class_=css)
    # It can be reached by the keyboard, or nobody could scroll it without a mouse.
    return element("div", whole, class_="scroll", tabindex=0, role="region", aria_label=label)


def column(title: Child, css: str | None = None) -> Markup:
    """The head of a column; `number` for one of figures, `hidden` for one that needs no head to be seen."""
    if css == "hidden":
        return element("th", element("span", title, class_=css), scope="col")
    return element("th", title, scope="col", class_=css)


def row(*cells: Markup, header: Child, css: str | None = None) -> Markup:
    """A row of `cell`s with its own head."""
    return element("tr", element("th", header, scope="row"), cells, class_=css)


def cell(content: Child, css: str | None = None) -> Markup:
    """One cell; `words` is the class of one that holds sentences."""
    return element("td", content, class_=css)


def numeric(content: Child) -> Markup:
    """A cell whose figures stand below one another."""
    return cell(content, "number")
