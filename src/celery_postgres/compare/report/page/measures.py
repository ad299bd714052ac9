"""What was measured: one table of everything, then for each group its plots and its exact figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.compare.report import numerals
from celery_postgres.compare.report.conclusion import NO_DIFFERENCE, conclude_all
from celery_postgres.compare.report.wording import better, capital

from .markup import element
from .plots import distribution, ranges
from .sections import section
from .series import legend
from .table import cell, column, grouped, numeric, row, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from celery_postgres.compare.report.conclusion import Conclusion, Standing
    from celery_postgres.compare.report.model import Measure, Report

    from .markup import Child, Markup
    from .series import Series


def glance(report: Report, series: Mapping[str, Series]) -> Markup | None:
    """The medians of all measures in one table."""
    groups = conclude_all(report)
    measured = {one.contender for group in groups.values() for found in group for one in found.standings}
    names = [name for name in series if name in measured]
    if not names:
        return None
    rows = [_glance_row(conclusion, names) for group in groups.values() for conclusion in group]
    peers = [column(series[name].label(), "number") for name in names]
    head = [column("Measure", "hidden"), *peers, column("Ahead")]
    said = "Medians. In bold: who is ahead, or shares the lead because the rounds show no difference."
    return section(
        "glance",
        "At a glance",
        element("p", said, class_="faint"),
        table("All measures at a glance", head, rows, "glance"),
    )


def _glance_row(conclusion: Conclusion, names: Sequence[str]) -> Markup:
    divisor, unit = numerals.scale(conclusion)
    standings = {one.contender: one for one in conclusion.standings}
    cells = []
    for name in names:
        if name not in standings:
            cells.append(numeric(numerals.DASH))
            continue
        shown = numerals.number(standings[name].spread.median / divisor)
        leads = name in conclusion.leaders
        cells.append(
            cell(element("strong", shown) if leads else shown, "number leads" if leads else "number")
        )
    about = ", ".join(filter(None, (unit, better(conclusion.measure))))
    title = [conclusion.measure.title, " ", element("span", about, class_="unit")]
    return row(*cells, cell(capital(_brief(conclusion)) or numerals.DASH, "verdict"), header=title)


def _brief(conclusion: Conclusion) -> str:
    """The conclusion where the names are beside it."""
    if len(conclusion.leaders) == 1:
        return conclusion.leaders[0]
    return NO_DIFFERENCE if len(conclusion.leaders) == len(conclusion.standings) else conclusion.said


def groups(report: Report, series: Mapping[str, Series]) -> Iterator[tuple[str, str, Markup]]:
    """The id, the title and the section of each group."""
    for index, (group, conclusions) in enumerate(conclude_all(report).items()):
        identity, title = f"group-{index}", capital(group)
        yield (
            identity,
            title,
            section(
                identity,
                title,
                element(
                    "div",
                    [_card(f"{identity}-{number}", one, series) for number, one in enumerate(conclusions)],
                    class_="cards",
                ),
                _distributions(identity, conclusions, series),
                element("h3", f"{title}: exact figures"),
                grouped(
                    f"{title}: exact figures", _head(report), _exact(conclusions, report, series), "exact"
                ),
            ),
        )


def _card(identity: str, conclusion: Conclusion, series: Mapping[str, Series]) -> Markup:
    measure = conclusion.measure
    _, unit = numerals.scale(conclusion)
    straight = not ranges.is_logarithmic(conclusion)
    about = ", ".join(filter(None, (unit, better(measure), "" if straight else "logarithmic scale")))
    return element(
        "figure",
        element(
            "figcaption",
            element("h3", measure.title),
            element("p", about, class_="unit"),
            _verdict(conclusion, series),
        ),
        ranges.draw(f"{identity}-plot", conclusion, series),
        element("p", measure.note, class_="note") if measure.note else None,
    )


def _verdict(conclusion: Conclusion, series: Mapping[str, Series]) -> Markup | None:
    if not conclusion.said:
        return None
    if len(conclusion.leaders) == 1:
        return element("p", series[conclusion.leaders[0]].label(), " is ahead", class_="verdict")
    return element("p", capital(conclusion.said), class_="verdict open")


def _distributions(
    identity: str, conclusions: Sequence[Conclusion], series: Mapping[str, Series]
) -> Markup | None:
    """One for each set of single values, whatever the number of measures that were formed of it."""
    distinct: list[Measure] = []
    for conclusion in conclusions:
        measure = conclusion.measure
        if measure.samples and all(measure.samples != one.samples for one in distinct):
            distinct.append(measure)
    figures = [
        _distribution(f"{identity}-samples-{number}", one, series) for number, one in enumerate(distinct)
    ]
    return element("div", figures, class_="cards large") if any(figures) else None


def _distribution(identity: str, measure: Measure, series: Mapping[str, Series]) -> Markup | None:
    plot = distribution.draw(identity, measure, series)
    if plot is None:
        return None
    shown = [one for name, one in series.items() if len(measure.samples.get(name, [])) > 1]
    counts = sorted({len(measure.samples[one.name]) for one in shown})
    many = numerals.number(counts[0]) if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    said = (
        f"Which share took no longer than so much: {many} single values of each, of all rounds. "
        "Marked are 50, 95 and 99 %. Further left is better, and a line that bends to the right has a tail."
    )
    return element(
        "figure",
        element("figcaption", element("h3", distribution.title(measure)), legend(shown)),
        plot,
        element("p", said, class_="note"),
    )


def _head(report: Report) -> list[Markup]:
    figures = ("Median", "Lowest", "Highest", "Rounds", f"Ratio to {report.baseline}")
    return [column("Contender", "hidden"), *(column(one, "number") for one in figures), column("Verdict")]


def _exact(
    conclusions: Sequence[Conclusion], report: Report, series: Mapping[str, Series]
) -> Iterator[tuple[Child, list[Markup]]]:
    for conclusion in conclusions:
        divisor, unit = numerals.scale(conclusion)
        title: Child = [conclusion.measure.title, " ", element("span", unit, class_="unit")]
        rows = [
            row(*_figures(standing, divisor, report), header=series[standing.contender].label())
            for standing in conclusion.standings
        ]
        yield title, rows


def _figures(standing: Standing, divisor: float, report: Report) -> list[Markup]:
    spread = standing.spread
    done = str(spread.rounds)
    if spread.rounds != report.planned_rounds:
        done = f"{done} of {report.planned_rounds}"
    ratio: Child = numerals.DASH
    if standing.ratio:
        shown = numerals.spread(standing.ratio, dash=numerals.DASH)
        paler = [" ", element("span", shown, class_="faint")] if shown else None
        ratio = [numerals.number(standing.ratio.median), paler]
    return [
        *(numeric(numerals.number(one / divisor)) for one in (spread.median, spread.low, spread.high)),
        numeric(done),
        numeric(ratio),
        cell(_beside(standing, report), "verdict"),
    ]


def _beside(standing: Standing, report: Report) -> str:
    return "the baseline" if standing.contender == report.baseline else standing.verdict or numerals.DASH
