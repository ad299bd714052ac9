"""Spelling: plain lower-case words that the dictionary does not know."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from spellchecker import SpellChecker

from evaluation.document_view import WORD
from evaluation.findings import Finding, Highlight, PluginResult
from evaluation.grading import density_grade

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from evaluation.document_view import DocumentView

_CHUNK = re.compile(r"[^\s\u2013\u2014]+")
_OUTER = "\"'\u2018\u2019\u201c\u201d()[]{}.,;:!?\u2026*-"
# Words joined by hyphens and nothing else: no digits, paths, names with underscores, or code.
_PLAIN = re.compile(rf"{WORD.pattern}(?:-{WORD.pattern})*")
_SHORTEST = 3
# Nobody writes longer ones, and the cost of a suggestion grows with the square of the length.
_LONGEST = 40


class Spelling:
    """Each unknown word once, at its first place, with the nearest known one.

    Names are left alone: only lower-case words are looked up. `allow` adds to the words known.
    """

    name = "spelling"

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._allow = _allow_list() | {word.lower() for word in allow}

    def analyze(self, view: DocumentView) -> PluginResult:
        places: dict[str, list[int]] = {}
        for word, start in _words(view.mask):
            places.setdefault(word, []).append(start)
        known = _dictionary().known(places)
        unknown = [word for word in places if word not in known and word not in self._allow]
        findings = tuple(self._finding(view, word, places[word]) for word in unknown)
        summary = f"{len(unknown)} unknown words among {view.words}."
        return PluginResult(summary, findings, density_grade(len(unknown), view.words))

    def _finding(self, view: DocumentView, word: str, places: list[int]) -> Finding:
        nearest = _dictionary().correction(word)
        text = f"Did you mean {nearest!r}?" if nearest not in (None, word) else "No similar word is known."
        if len(places) > 1:
            text += f" It occurs {len(places)} times."
        place = Highlight.at(view, places[0], places[0] + len(word))
        return Finding("nitpick", "Unknown word", text, place)


def _words(mask: str) -> Iterator[tuple[str, int]]:
    for chunk in _CHUNK.finditer(mask):
        text = chunk.group().strip(_OUTER)
        if not _PLAIN.fullmatch(text):
            continue
        start = chunk.start() + chunk.group().index(text)
        for match in WORD.finditer(text):
            word = re.sub(r"'s?$", "", match.group().replace("\u2019", "'"))
            if _SHORTEST <= len(word) <= _LONGEST and word.islower():
                yield word, start + match.start()


@lru_cache(maxsize=1)
def _dictionary() -> SpellChecker:
    # Words two letters away are guesses, and take seconds to find.
    return SpellChecker(language="en", distance=1)


@lru_cache(maxsize=1)
def _allow_list() -> frozenset[str]:
    lines = Path(__file__).with_name("words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())
