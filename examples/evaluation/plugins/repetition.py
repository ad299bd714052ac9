"""Repetition: the same word twice in a row, which readers overlook and writers too."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from evaluation.findings import Finding, Highlight, PluginResult
from evaluation.grading import density_grade

if TYPE_CHECKING:
    from evaluation.document_view import DocumentView

_DOUBLED = re.compile(r"(?<![\w'\u2019-])([^\W\d_]+)\s+\1(?![\w'\u2019-])", re.IGNORECASE)
# What English does say twice.
_PROPER = frozenset({"had", "that", "is", "very"})


class Repetition:
    """Doubled words, also where a line ends between them."""

    name = "repetition"

    def analyze(self, view: DocumentView) -> PluginResult:
        findings: list[Finding] = []
        for block in view.blocks:
            for match in _DOUBLED.finditer(view.prose_of(block)):
                if match[1].lower() in _PROPER:
                    continue
                place = Highlight.at(view, block.start + match.start(), block.start + match.end())
                text = f"{match[1]!r} stands twice in a row; drop one."
                findings.append(Finding("warning", "Doubled word", text, place))
        summary = f"{len(findings)} doubled words."
        return PluginResult(summary, tuple(findings), density_grade(len(findings), view.words))
