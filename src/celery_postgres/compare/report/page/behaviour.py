"""What the contenders did when something went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.compare.report import numerals

from .markup import element
from .plots import timeline
from .sections import section, sign
from .series import legend
from .table import cell, column, numeric, row, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_postgres.compare.report.model import Behaviour, Report, Situation

    from .markup import Markup
    from .series import Series


def behaviour(report: Report, series: Mapping[str, Series]) -> Markup | None:
    """All situations, each with a sentence for each contender, and its course where it was recorded."""
    situations = [one for one in report.situations if one.found]
    if not situations:
        return None
    return section(
        "behaviour",
        "Behaviour",
        [_situation(f"situation-{index}", one, series) for index, one in enumerate(situations)],
    )


def _situation(identity: str, situation: Situation, series: Mapping[str, Series]) -> Markup:
    names = [name for name in series if name in situation.found]
    counted = any(
        value is not None
        for one in situation.found.values()
        for value in (one.seconds, one.lost, one.duplicated)
    )
    figures = ("After", "Lost", "Duplicated") if counted else ()
    head = [column("Contender"), column("What happened"), *(column(one, "number") for one in figures)]
    rows = [
        row(
            cell([sign(situation.found[name].good), situation.found[name].said], "words"),
            *(_counts(situation.found[name]) if counted else []),
            header=series[name].label(),
        )
        for name in names
    ]
    return element(
        "article",
        element("h3", situation.title),
        element("p", situation.what),
        element(
            "div", table(situation.title, head, rows), _course(identity, situation, series), class_="beside"
        ),
        class_="situation",
    )


def _counts(found: Behaviour) -> list[Markup]:
    after = numerals.DASH if found.seconds is None else numerals.seconds(found.seconds)
    counts = [numerals.DASH if one is None else f"{one:,}" for one in (found.lost, found.duplicated)]
    return [numeric(one) for one in (after, *counts)]


def _course(identity: str, situation: Situation, series: Mapping[str, Series]) -> Markup | None:
    plot = timeline.draw(identity, situation, series)
    if plot is None:
        return None
    shown = [one for name, one in series.items() if (found := situation.found.get(name)) and found.timeline]
    caption = element("p", "Tasks that had ended, before and after", class_="unit")
    return element("figure", element("figcaption", caption, legend(shown)), plot)
