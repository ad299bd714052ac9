"""The line around a place, for people to look at."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lines import Lines

_MORE = "\u2026"
# How much of the line stays visible before the place.
_BEFORE = 24


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A piece of one line; the characters from `start` to `end` of it are the place."""

    text: str
    start: int
    end: int


def excerpt(lines: Lines, start: int, end: int, width: int) -> Excerpt:
    """At most `width` characters of the line on which the place begins, with the place in view."""
    number, column = lines.position(start)
    line = printable(lines.line(number - 1))
    first = column - 1
    last = min(first + end - start, len(line))
    cut = 0
    if len(line) > width:
        cut = max(0, min(first - _BEFORE, len(line) - width))
    text = line[cut : cut + width]
    if cut:
        text = _MORE + text[1:]
    if cut + width < len(line):
        text = text[:-1] + _MORE
    return Excerpt(text, first - cut, max(min(last - cut, len(text)), first - cut + 1))


def printable(text: str) -> str:
    """The text without what would move a terminal's cursor or change its colours, at the same length."""
    return "".join(
        " " if character.isspace() else "\ufffd" if unicodedata.category(character)[0] == "C" else character
        for character in text
    )
