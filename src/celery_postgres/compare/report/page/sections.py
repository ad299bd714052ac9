"""The sections around the figures: what this is, what is unfair about it, who took part, how to repeat it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from celery_postgres.compare.report import numerals
from celery_postgres.compare.report.conclusion import conclude_all, in_short
from celery_postgres.compare.report.wording import absent, capital, contest, ended, missing, rounds, rule

from .markup import element, joined
from .table import cell, column, row, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celery_postgres.compare.report.model import Ability, Contender, Report

    from .markup import Child, Markup
    from .series import Series

_INTERRUPTED = "It was stopped before its end: this is what it had found by then."
_CHANCE = "Among many measures a few differ by chance all the same."
_SIGNS = {True: ("✓", "yes", "good: "), False: ("✗", "no", "bad: "), None: ("", "open", "")}


def section(identity: str, title: str, *children: Child) -> Markup:
    """A part of the page, which its contents lead to."""
    return element("section", element("h2", title, id=identity), *children)


def opening(report: Report) -> Markup:
    """The title, the circumstances, and before anything else what speaks against the figures."""
    return element(
        "header",
        element("p", "celery postgres compare", class_="over"),
        element("h1", contest(report)),
        element("p", report.workload, class_="lead"),
        element("p", ended(report), class_="faint"),
        _notices(report),
    )


def _notices(report: Report) -> Markup | None:
    failed = [one for one in report.contenders if one.failure]
    parts: list[Child] = []
    if report.interrupted:
        parts.append(
            _notice("Interrupted", ["It was stopped before its end: this is what it had found by then."])
        )
    if failed:
        said = [[element("strong", one.name), f" {_lower(missing(one, report))}"] for one in failed]
        parts.append(_notice("Not complete", said))
    if report.warnings:
        parts.append(_notice("Before you read the figures", report.warnings, "warning"))
    return element("div", parts, class_="notices") if parts else None


def _notice(title: str, said: Sequence[Child], css: str = "stop") -> Markup:
    points = element("ul", [element("li", one) for one in said])
    return element(
        "aside", element("p", title, class_="title"), points, class_=f"notice {css}", aria_label=title
    )


def contents(sections: Mapping[str, str]) -> Markup:
    """Links to the sections, by their ids."""
    links = [element("li", element("a", title, href=f"#{identity}")) for identity, title in sections.items()]
    return element("nav", element("ul", links), aria_label="On this page")


def short(report: Report) -> Markup | None:
    """Who is ahead in what."""
    found = in_short(report)
    if not found:
        return None
    points = [
        element("li", element("strong", capital(said)), ": ", "; ".join(titles), ".")
        for said, titles in found.items()
    ]
    return section("short", "In short", element("ul", points, class_="plain"))


def contenders(report: Report, series: Mapping[str, Series]) -> Markup:
    """Versions, addresses and settings of all, also of those who are missing."""
    rows = [
        row(
            cell(one.version or numerals.DASH),
            cell(_addresses(one), "words"),
            cell(_settings(one), "words"),
            cell(missing(one, report) if one.failure else "Took part", "words"),
            header=series[one.name].label(),
            css="absent" if absent(one, report) else None,
        )
        for one in report.contenders
    ]
    head = [column(one) for one in ("Contender", "Version", "Broker and results", "Settings", "Part")]
    return section("contenders", "Contenders", table("Contenders", head, rows))


def _addresses(one: Contender) -> list[Child]:
    results: list[Child] = [] if one.backend == one.broker else ["results in ", element("code", one.backend)]
    return [element("code", one.broker), element("br") if results else None, *results]


def _settings(one: Contender) -> list[Child]:
    return [
        [element("br") if index else None, element("code", name), f" {value}"]
        for index, (name, value) in enumerate(one.settings.items())
    ] or [numerals.DASH]


def abilities(report: Report, series: Mapping[str, Series]) -> Markup | None:
    """What each can do, as it was seen."""
    names = [name for name in series if any(name in feature.found for feature in report.features)]
    if not names:
        return None
    rows = [
        row(*(cell(_ability(feature.found.get(name))) for name in names), header=feature.title)
        for feature in report.features
    ]
    head = [column("Ability", "hidden"), *(column(series[name].label()) for name in names)]
    said = element("p", "Read from what they did, not from what they claim.", class_="faint")
    return section("abilities", "Abilities", said, table("Abilities", head, rows, "matrix"))


def _ability(found: Ability | None) -> Child:
    return "not tried" if found is None else [sign(found.has), found.said]


def sign(good: bool | None) -> Markup:
    """A mark to be found at a glance, and a word for those who do not see it; a gap where there is none."""
    shape, css, word = _SIGNS[good]
    mark = element("span", shape, class_=f"sign {css}", aria_hidden="true")
    return joined([mark, element("span", word, class_="hidden") if word else None])


def method(report: Report) -> Markup:
    """How the figures came about, and how a colleague can get them again."""
    figures = [element("p", rounds(report), " ", rule(report), " ", _CHANCE)] if conclude_all(report) else []
    facts = [[element("dt", name), element("dd", value)] for name, value in report.environment.items()]
    return section(
        "repeat",
        "How it was measured, and how to repeat it",
        figures,
        element("p", "The command, with passwords masked:"),
        element("pre", element("code", shlex.join(report.command))),
        element("dl", facts, class_="facts") if facts else None,
    )


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
