"""The page as a document: valid HTML, escaped, complete, pointing nowhere."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from justhtml import JustHTML

from celery_postgres.compare.report import page
from celery_postgres.compare.report.model import Contender, Measure, Report

from .hostile import hostile
from .sample import NAMES, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def parsed(report: Report) -> Any:
    """The page's elements; raises for whatever the HTML standard calls a parse error."""
    return JustHTML(page.render(report), strict=True, sanitize=False).root


def elements(node: Any) -> Iterator[Any]:
    for child in node.children or ():
        if not child.name.startswith(("#", "!")):
            yield child
            yield from elements(child)


def named(root: Any, *names: str) -> list[Any]:
    return [one for one in elements(root) if one.name in names]


def words(node: Any) -> str:
    return " ".join(node.to_text().split())


def everything_far_apart() -> Report:
    """One measure that needs a logarithmic scale, one that is zero everywhere, one of a single round."""
    report = sample()
    report.measures = [
        Measure("a", "speed", "A", "ms", "less", {"PostgreSQL": [1.0, 2.0], "Redis": [1e6, 2e6]}),
        Measure("b", "speed", "B", "ms", "less", {name: [0.0, 0.0] for name in NAMES}, {"Redis": [0.0, 0.0]}),
        Measure("c", "speed", "C", "ms", "less", {"PostgreSQL": [3.0]}, {"PostgreSQL": [3.0]}),
        Measure("d", "speed", "D", "bytes", "neither", {"PostgreSQL": [-3e9, 5e9]}, {"Redis": [1.0, 1.0]}),
    ]
    return report


def many_contenders() -> Report:
    report = sample()
    names = [f"Broker {number}" for number in range(9)]
    report.contenders = [Contender(name, "other", "x://", "x://") for name in names]
    report.measures = [
        replace(one, rounds={name: [1.0] * 5 for name in names}, samples={name: [1.0, 2.0] for name in names})
        for one in report.measures
    ]
    return report


def nothing() -> Report:
    return Report([], "", {}, "", 5, "PostgreSQL")


REPORTS = [sample, lambda: hostile(sample()), everything_far_apart, many_contenders, nothing]


@pytest.mark.parametrize("made", REPORTS, ids=["sample", "hostile", "far apart", "many", "nothing"])
def test_page_is_valid(made: Callable[[], Report]) -> None:
    """No parse error, ids that are unique, references that lead to one, headings in order."""
    root = parsed(made())
    ids = [one.attrs["id"] for one in elements(root) if "id" in one.attrs]
    assert len(ids) == len(set(ids))
    references = [
        one.attrs[name].removeprefix("#")
        for one in elements(root)
        for name in ("href", "aria-labelledby", "aria-describedby")
        if name in one.attrs
    ]
    assert set(references) <= set(ids)
    levels = [int(one.name[1]) for one in named(root, "h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_nothing_in_the_page_points_outside() -> None:
    report = hostile(sample())
    loading = {"src", "srcset", "data", "action", "formaction", "poster", "ping", "xlink:href", "style"}
    for one in elements(parsed(report)):
        assert not loading & set(one.attrs), one
        assert not [name for name in one.attrs if name.startswith("on")], one
        assert one.attrs.get("href", "#").startswith("#")
        assert one.name not in {"script", "link", "img", "iframe", "object", "embed", "form", "base", "use"}
    style = words(named(parsed(report), "style")[0])
    assert "url(" not in style
    assert "@import" not in style


def test_policy_forbids_all_but_this_style() -> None:
    text = page.render(sample())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert policy
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert "default-src &#x27;none&#x27;" in policy[1]
    assert f"style-src &#x27;sha256-{digest}&#x27;" in policy[1]


def test_hostile_words_are_shown_and_nothing_more() -> None:
    root = parsed(hostile(sample()))
    assert named(root, "script", "img") == []
    title = words(named(root, "h1")[0])
    assert "<script>alert(1)</script>" in title
    assert r"\x00\x1b[2J\u202e\ud800" in title


def test_tables_tell_what_their_cells_belong_to() -> None:
    root = parsed(sample())
    heads = named(root, "th")
    assert {one.attrs.get("scope") for one in heads} == {"col", "row", "rowgroup"}
    assert all(words(one) for one in heads)
    for row in named(root, "tr"):
        assert any(one.name == "th" for one in row.children)


def test_drawings_have_a_title_and_a_description() -> None:
    root = parsed(sample())
    plots = [one for one in named(root, "svg") if one.attrs.get("role") == "img"]
    # One for each measure, two distributions, two courses after a fault.
    assert len(plots) == len(sample().measures) + 2 + 2
    for plot in plots:
        title, description = plot.children[:2]
        assert (title.name, description.name) == ("title", "desc")
        assert words(title)
        assert any(name in words(description) for name in NAMES)
    others = [one for one in named(root, "svg") if one not in plots]
    assert all(one.attrs.get("aria-hidden") == "true" for one in others)


def test_everything_of_the_report_is_on_the_page() -> None:
    report = sample()
    shown = words(parsed(report))
    for said in [
        *(one.title for one in report.measures),
        *(one.what for one in report.situations),
        *(found.said for one in report.situations for found in one.found.values()),
        *(one.title for one in report.features),
        *(found.said for one in report.features for found in one.found.values()),
        *report.environment.values(),
        *(value for one in report.contenders for value in one.settings.values()),
        *(one.version for one in report.contenders),
        *(one.broker for one in report.contenders),
        *report.warnings,
    ]:
        assert said in shown
    assert "celery -A shop.celery:app postgres compare --with redis://localhost:6379/15" in shown


def test_what_speaks_against_the_figures_comes_before_them() -> None:
    report = sample()
    report.interrupted = True
    header = words(named(parsed(report), "header")[0])
    assert "Interrupted" in header
    assert "RabbitMQ 2 takes no part: mq.internal:5672 does not answer" in header
    assert all(warning in header for warning in report.warnings)


def test_one_distribution_for_one_set_of_values() -> None:
    """p50, p95 and p99 may all come with the values that they were formed of."""
    report = sample()
    samples = next(one.samples for one in report.measures if one.key == "latency.p50")
    report.measures = [
        replace(one, samples=samples) if one.key.startswith("latency") else one for one in report.measures
    ]
    titles = [words(one) for one in named(parsed(report), "h3") if words(one).startswith("Distribution")]
    assert titles == ["Distribution: Call to start, idle worker", "Distribution: Call to result, idle worker"]


def test_logarithmic_scales_are_named_and_have_no_bars() -> None:
    report = everything_far_apart()
    report.measures = report.measures[:1]
    shown = page.render(report)
    assert "logarithmic scale" in shown
    assert 'class="bar"' not in shown
    assert 'class="bar"' in page.render(sample())
