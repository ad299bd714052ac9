"""A report as one page of HTML that needs nothing else: no request leaves it, and no script runs in it.

Its policy says so to the browser, too: nothing is loaded, and of styles only the one in it, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from celery_postgres.compare.report import file
from celery_postgres.compare.report.wording import contest

from . import measures, sections
from .behaviour import behaviour
from .markup import Markup, element
from .series import series_of

if TYPE_CHECKING:
    from celery_postgres.compare.report.model import Report

__all__ = ["render", "write"]


def write(report: Report, path: Path | str) -> None:
    """Write the page; the file is whole or not there. OSError where it cannot be written."""
    file.write(render(report), path)


def render(report: Report) -> str:
    """The whole page."""
    series = series_of(report)
    parts: list[tuple[str, str, Markup | None]] = [
        ("short", "In short", sections.short(report)),
        ("glance", "At a glance", measures.glance(report, series)),
        *measures.groups(report, series),
        ("behaviour", "Behaviour", behaviour(report, series)),
        ("abilities", "Abilities", sections.abilities(report, series)),
        ("contenders", "Contenders", sections.contenders(report, series)),
        ("repeat", "How to repeat it", sections.method(report)),
    ]
    shown = {identity: title for identity, title, part in parts if part is not None}
    body = element(
        "body",
        sections.opening(report),
        sections.contents(shown),
        element("main", [part for _, _, part in parts]),
    )
    return f"<!DOCTYPE html>\n{element('html', _head(report), body, lang='en')}\n"


def _head(report: Report) -> Markup:
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return element(
        "head",
        element("meta", charset="utf-8"),
        element(
            "meta",
            http_equiv="Content-Security-Policy",
            content=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        ),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", contest(report)),
        element("style", Markup(style)),
    )
