"""A document as the checks see it: its text, its parts, and its prose at the same offsets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .lines import Lines
from .markup import parser
from .parts import Block, Definition, Fence, Heading, Link
from .placement import NOWHERE, place_cell, place_lines
from .prose import prose

if TYPE_CHECKING:
    from markdown_it.token import Token

    from .markup import Piece

WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")

_ANCHOR = re.compile(r"""<[a-z][^<>]*?\b(?:id|name)\s*=\s*["']?([^"'\s>]+)""", re.IGNORECASE)
_NOT_IN_SLUG = re.compile(r"[^\w\- ]")
_KINDS = {"paragraph_open": "paragraph", "heading_open": "heading", "th_open": "cell", "td_open": "cell"}


class DocumentView:
    """A parsed document.

    `mask` is as long as `text` and keeps only its prose: what a check finds at an offset of the mask
    stands at that offset of the text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        # The parser does this replacement, too; it keeps the length.
        self.lines = Lines(text.replace("\0", "\ufffd"))
        self.blocks: list[Block] = []
        self.headings: list[Heading] = []
        self.links: list[Link] = []
        self.definitions: list[Definition] = []
        self.fences: list[Fence] = []
        self.anchors: set[str] = set()
        self._slugs: dict[str, int] = {}
        self._painted = [character if character in "\r\n" else " " for character in text]
        env: dict[str, Any] = {}
        self._read(parser().parse(text, env))
        self._define(env)
        self.mask = "".join(self._painted)
        self.words = len(WORD.findall(self.mask))

    def prose_of(self, block: Block) -> str:
        """The mask of one block."""
        return self.mask[block.start : block.end]

    def _read(self, tokens: list[Token]) -> None:
        row = cell_end = -1
        for index, token in enumerate(tokens):
            if token.type == "inline":
                opening = tokens[index - 1]
                kind = _KINDS[opening.type]
                if kind == "cell":
                    if token.map and token.map[0] != row:
                        row, cell_end = token.map[0], self.lines.starts[token.map[0]]
                    offsets = place_cell(token, self.lines, cell_end)
                    cell_end = offsets[-1] + 1 if offsets else cell_end
                else:
                    offsets = place_lines(token, self.lines, heading=bool(opening.markup.startswith("#")))
                self._read_inline(token, kind, offsets)
                if kind == "heading" and opening.level == 0:
                    self._read_heading(tokens, index, offsets)
            elif token.type == "fence" and token.map:
                start = self.lines.text.index(token.markup, self.lines.starts[token.map[0]])
                language = token.info.split()[0] if token.info.strip() else ""
                self.fences.append(Fence(language, start, self.lines.ends[token.map[0]]))
            elif token.type == "html_block":
                self.anchors.update(_ANCHOR.findall(token.content))

    def _read_inline(self, token: Token, kind: Any, offsets: list[int]) -> None:
        placed = [offset for offset in offsets if offset != NOWHERE]
        if not placed:
            return
        self.blocks.append(Block(kind, placed[0], placed[-1] + 1))
        pieces: list[Piece] = token.meta["pieces"]
        for offset, character in zip(offsets, prose(token.content, pieces), strict=True):
            if offset != NOWHERE:
                self._painted[offset] = character
        for piece in pieces:
            start, end = offsets[piece.start], offsets[piece.end - 1] + 1
            if piece.rule == "html_inline":
                self.anchors.update(_ANCHOR.findall(token.content[piece.start : piece.end]))
            for emitted in piece.tokens:
                if piece.rule in ("link", "autolink") and emitted.type == "link_open":
                    text = token.content[piece.start + 1 : piece.label_end]
                    self._link(piece.rule, emitted, text, start, end)
                    break
                if piece.rule == "image" and emitted.type == "image":
                    self._link("image", emitted, emitted.content, start, end)

    def _link(self, kind: Any, token: Token, text: str, start: int, end: int) -> None:
        target = str(token.attrs.get("src" if kind == "image" else "href", ""))
        self.links.append(Link(kind, target, text, token.meta.get("label"), start, end))

    def _read_heading(self, tokens: list[Token], index: int, offsets: list[int]) -> None:
        inline, opening = tokens[index], tokens[index - 1]
        children = inline.children or ()
        title = "".join(" " if child.type == "softbreak" else child.content for child in children)
        slug = self._slug(title)
        following = tokens[index + 2] if index + 2 < len(tokens) else None
        level = int(opening.tag[1])
        empty = following is None or (following.type == "heading_open" and int(following.tag[1]) <= level)
        first = inline.map[0] if inline.map else 0
        start, end = self.lines.starts[first], self.lines.ends[first]
        placed = [offset for offset in offsets if offset != NOWHERE]
        if placed:
            start, end = placed[0], placed[-1] + 1
        self.headings.append(Heading(level, title, slug, start, end, empty))
        self.anchors.add(slug)

    def _slug(self, title: str) -> str:
        """The anchor that code hosts give a heading; repeated ones are numbered."""
        plain = slug = _NOT_IN_SLUG.sub("", title.strip().lower()).replace(" ", "-")
        while slug in self._slugs:
            self._slugs[plain] += 1
            slug = f"{plain}-{self._slugs[plain]}"
        self._slugs[slug] = 0
        return slug

    def _define(self, env: dict[str, Any]) -> None:
        for label, reference in env.get("references", {}).items():
            first, last = reference["map"]
            start, end = self.lines.starts[first], self.lines.ends[max(first, last - 1)]
            self.definitions.append(Definition(label, reference["href"], start, end))
