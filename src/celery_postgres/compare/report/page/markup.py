"""HTML and SVG out of Python: elements nest, and text cannot be anything but text."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from celery_postgres.compare.report.wording import visible

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    Child: TypeAlias = "str | Markup | Iterable[Child] | None"

#: HTML's elements without an end.
_VOID = frozenset({"br", "hr", "link", "meta", "wbr"})


class Markup(str):
    """What is HTML already: never escaped again."""

    __slots__ = ()


def element(tag: str, *children: Child, **attributes: str | float | None) -> Markup:
    """`<tag …>children</tag>`; texts and values are escaped, what is None is left out.

    An underscore stands for a hyphen, and one at the end for nothing: `class_`, `aria_label`.
    """
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{named}>")
    return Markup(f"<{tag}{named}>{joined(children)}</{tag}>")


def joined(children: Child) -> Markup:
    """Children one after the other."""
    if children is None:
        return Markup()
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return Markup(escape(visible(children)))
    return Markup("".join(map(joined, children)))


def _value(value: str | float) -> str:
    """Coordinates with two decimals at most."""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return visible(str(value))
