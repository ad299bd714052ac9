"""The parts of a Markdown document that checks ask for; `start` and `end` are offsets in its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Block:
    """A run of text that reads as one: a paragraph, a heading or a table cell."""

    kind: Literal["paragraph", "heading", "cell"]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading at the top level of the document; `empty` if no content follows before its section ends."""

    level: int
    title: str
    slug: str
    start: int
    end: int
    empty: bool


@dataclass(frozen=True, slots=True)
class Link:
    """A link, image or address in angle brackets; `label` names the definition that it refers to."""

    kind: Literal["link", "image", "autolink"]
    target: str
    text: str
    label: str | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Definition:
    """A link definition, `[label]: target`."""

    label: str
    target: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced code block; the offsets are those of its opening line."""

    language: str
    start: int
    end: int
