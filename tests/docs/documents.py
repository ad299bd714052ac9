"""The project's documents, taken apart into blocks, links and headings.

A comment before a block says what it is:

    <!-- run -->            a shell block that is executed
    <!-- output -->         what the shell block before it prints; … stands for anything
    <!-- file: NAME -->     a file that the shell blocks of the document find in their folder
    <!-- may be empty -->   a query that need not find anything
    <!-- log -->            lines that our code logs or raises; … stands for anything
    <!-- urls -->           one URL a line
    <!-- options -->        the table of options follows
    <!-- sqlstates -->      the table of SQLSTATEs follows
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(r"^```(\w*)$")
_MARK = re.compile(r"^<!-- (.+) -->$")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block; `mark` is the comment on the line before it, or empty."""

    document: Path
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


@dataclass(frozen=True)
class Link:
    """One link outside the blocks."""

    document: Path
    line: int
    text: str
    target: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line} {self.target}"


@cache
def blocks(language: str | None = None, mark: str | None = None) -> list[Block]:
    """The blocks of all documents in their order; only those of a language or with a mark, if given."""
    return [
        block
        for document in DOCUMENTS
        for block in _blocks_of(document)
        if language in (None, block.language) and mark in (None, block.mark)
    ]


@cache
def links() -> list[Link]:
    return [
        Link(document, number, text, target)
        for document in DOCUMENTS
        for number, line in _prose(document)
        for text, target in _LINK.findall(line)
    ]


@cache
def anchors(document: Path) -> frozenset[str]:
    """The anchors of the document's headings, as hosting sites make them."""
    found = (line.lstrip("#").strip() for _, line in _prose(document) if line.startswith("#"))
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found)


def _blocks_of(document: Path) -> list[Block]:
    found: list[Block] = []
    lines = document.read_text(encoding="utf-8").splitlines()
    begin: int | None = None
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if begin is None and fence:
            begin = number
        elif begin is not None and line == "```":
            opening = _FENCE.match(lines[begin])
            mark = _MARK.match(lines[begin - 1])
            assert opening is not None
            text = "\n".join(lines[begin + 1 : number]) + "\n"
            found.append(Block(document, begin + 1, opening[1], mark[1] if mark else "", text))
            begin = None
    assert begin is None, f"{document.name}:{begin} opens a block that does not end"
    return found


def _prose(document: Path) -> list[tuple[int, str]]:
    """The numbered lines outside the blocks."""
    inside, found = False, []
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            found.append((number, line))
    return found
