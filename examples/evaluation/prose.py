"""What of a block is prose: its text with every other character blanked, at its full length."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .markup import Piece

# Stands for what a reader sees as one thing and no check can read: code, an address, an image.
OPAQUE = "\ufffc"

_ADDRESS = re.compile(
    rf"(?:https?://|www\.)[^\s<>{OPAQUE}]*[^\s<>{OPAQUE}.,;:!?)\]'\"]|(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
)


def prose(content: str, pieces: list[Piece]) -> str:
    """The content of a block, equally long, with markup blanked by spaces and things by `OPAQUE`."""
    painted = list(content)
    for piece in pieces:
        for start, end in _markup(piece):
            cover = _cover(piece, content, start, end)
            for index in range(start, end):
                if painted[index] != "\n":
                    painted[index] = cover
    return _ADDRESS.sub(lambda match: OPAQUE * len(match.group()), "".join(painted))


def _cover(piece: Piece, content: str, start: int, end: int) -> str:
    if piece.rule == "entity":
        return " " if piece.tokens[-1].content.isspace() else OPAQUE
    if piece.rule in ("image", "autolink", "backticks"):
        return OPAQUE
    # Markup inside a word must not make two words of it.
    in_word = start > 0 and end < len(content) and (content[start - 1] + content[end]).isalnum()
    return OPAQUE if in_word else " "


def _markup(piece: Piece) -> list[tuple[int, int]]:
    """The spans of a piece that are no prose."""
    if piece.rule == "link":
        return [(piece.start, piece.start + 1), (piece.label_end, piece.end)]
    if piece.rule == "escape":
        return [(piece.start, piece.start + 1)]
    if piece.rule in ("emphasis", "strikethrough"):
        return _matched(piece)
    if piece.rule in ("image", "autolink", "html_inline", "entity"):
        return [(piece.start, piece.end)]
    # Backticks that close nothing emit no code: they are characters like any other.
    if any(token.type == "code_inline" for token in piece.tokens):
        return [(piece.start, piece.end)]
    return []


def _matched(piece: Piece) -> list[tuple[int, int]]:
    """The delimiters that were paired; the others are characters like any other."""
    spans: list[tuple[int, int]] = []
    end = piece.end
    # From the right: the first token may be text that was pending before this rule.
    for token, width in zip(reversed(piece.tokens), reversed(piece.widths), strict=True):
        if end <= piece.start:
            break
        if not token.content:
            if spans and spans[-1][0] == end:
                spans[-1] = (end - width, spans[-1][1])
            else:
                spans.append((end - width, end))
        end -= width
    return spans
