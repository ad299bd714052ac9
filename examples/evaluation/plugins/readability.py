"""Readability: how long are the sentences, and how long are the words in them?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from evaluation.document_view import WORD
from evaluation.findings import Finding, Highlight, PluginResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evaluation.document_view import DocumentView

# Flesch reading ease, and the grade it earns. Technical prose lies between 30 and 60.
_BANDS = ((60.0, 100), (50.0, 90), (40.0, 80), (30.0, 70), (20.0, 60), (10.0, 50))
_LOWEST = 40
# A score from a handful of words says nothing.
_FEWEST_WORDS = 30

# A full stop inside a sentence ("e.g. this", "v1.2") is not followed by a capital.
_END = re.compile(r"(?<![.!?:])[.!?:]+[\"'\u2019\u201d)\]]*(?=\s+[^a-z\s]|\s*$)")
_VOWELS = re.compile(r"[aeiouy\u00e0-\u00ff]+")
_SILENT = re.compile(r"(?:[^laeiouy]e|[^tdaeiouy]ed|[^sxzhcgaeiouy]es)$")


class Readability:
    """The Flesch reading ease of the paragraphs; sentences of more than `longest_sentence` words."""

    name = "readability"

    def __init__(self, longest_sentence: int = 40) -> None:
        self._longest = longest_sentence

    def analyze(self, view: DocumentView) -> PluginResult:
        findings: list[Finding] = []
        sentences = words = syllables = 0
        for start, end in _sentences(view):
            found = WORD.findall(view.mask[start:end])
            if not found:
                continue
            sentences, words = sentences + 1, words + len(found)
            syllables += sum(_syllables(word.lower()) for word in found)
            if len(found) > self._longest:
                text = f"It has {len(found)} words; readers lose track after {self._longest}. Split it."
                findings.append(Finding("warning", "Long sentence", text, Highlight.at(view, start, end)))
        if words < _FEWEST_WORDS:
            return PluginResult(f"{words} words are too few to judge.", tuple(findings))
        ease = 206.835 - 1.015 * words / sentences - 84.6 * syllables / words
        grade = next((grade for limit, grade in _BANDS if ease >= limit), _LOWEST)
        summary = f"Flesch reading ease {ease:.0f}, {words / sentences:.1f} words per sentence."
        return PluginResult(summary, tuple(findings), grade)


def _sentences(view: DocumentView) -> Iterator[tuple[int, int]]:
    for block in view.blocks:
        if block.kind != "paragraph":
            continue
        prose = view.prose_of(block)
        start = 0
        for stop in [*(match.end() for match in _END.finditer(prose)), len(prose)]:
            sentence = prose[start:stop]
            if sentence.strip():
                lead = len(sentence) - len(sentence.lstrip())
                yield block.start + start + lead, block.start + start + len(sentence.rstrip())
            start = stop


def _syllables(word: str) -> int:
    """Groups of vowels without a silent end: within a few per cent of a pronouncing dictionary."""
    groups = len(_VOWELS.findall(word))
    return max(1, groups - bool(_SILENT.search(word)))
