"""Where in the document each character of a block's content stands.

The parser hands out a block without quote marks, list indentation, heading marks and table pipes.
Each content line is what is left at the end of its source line, so it is looked for there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .errors import PermanentError

if TYPE_CHECKING:
    from markdown_it.token import Token

    from .lines import Lines

NOWHERE = -1

_CLOSING_HASHES = re.compile(r"[ \t]+#+[ \t]*$")


def place_lines(token: Token, lines: Lines, *, heading: bool) -> list[int]:
    """Offsets of a paragraph's or heading's characters; `NOWHERE` for line ends and outer spaces."""
    first, end = _lines_of(token)
    contents = token.content.split("\n")
    sources = [lines.line(number) for number in range(first, end)]
    if heading:
        sources = [_CLOSING_HASHES.sub("", source) for source in sources]
    # A line of nothing but, say, an ideographic space may have been trimmed away before the others.
    for skipped in range(max(1, len(sources) - len(contents) + 1)):
        pairs = zip(sources[skipped:], contents, strict=False)
        starts = [_suffix(source, content) for source, content in pairs]
        if len(starts) == len(contents) and None not in starts:
            break
    else:
        raise PermanentError(f"Line {first + 1} cannot be matched with its parsed text.")
    offsets: list[int] = []
    for number, (content, start) in enumerate(zip(contents, starts, strict=True), first + skipped):
        text = lines.starts[number] + (start or 0)
        inner = content.strip()
        lead = content.index(inner)
        offsets += [NOWHERE] * lead
        offsets += range(text, text + len(inner))
        offsets += [NOWHERE] * (len(content) - lead - len(inner) + 1)
    # The last line has no line end.
    return offsets[:-1]


def _suffix(source: str, content: str) -> int | None:
    """Where the content line begins in its source line, None if the source does not end with it."""
    source, content = source.rstrip(), content.strip()
    return len(source) - len(content) if source.endswith(content) else None


def place_cell(token: Token, lines: Lines, after: int) -> list[int]:
    """Offsets of a table cell's characters, looked for from the offset `after` on."""
    first, _ = _lines_of(token)
    # A pipe inside a cell is written `\|` and parsed as `|`.
    written = token.content.replace("|", "\\|")
    start = lines.text.find(written, after, lines.ends[first])
    if start < 0:
        raise PermanentError(f"Line {first + 1} cannot be matched with its parsed table cell.")
    offsets: list[int] = []
    for character in token.content:
        start += character == "|"
        offsets.append(start)
        start += 1
    return offsets


def _lines_of(token: Token) -> tuple[int, int]:
    if token.map is None:
        raise PermanentError("The parser left a block without its lines.")
    return token.map[0], token.map[1]
