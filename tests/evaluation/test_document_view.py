"""The view of a document: its prose, and what stands where."""

from __future__ import annotations

import random

import pytest
from evaluation.document_view import DocumentView
from evaluation.prose import OPAQUE

X = OPAQUE

MASKS = {
    "emphasis": ("a **b** *c* ~~d~~ __e__", "a   b    c    d     e  "),
    "unmatched delimiters": ("2 * 3 and *un **x", "2 * 3 and *un **x"),
    "markup within a word": ("un**frozen**ly", f"un{X * 2}frozen{X * 2}ly"),
    "inline code": ("the `x y` the", f"the {X * 5} the"),
    "backticks that close nothing": ("a ` b", "a ` b"),
    "link with its target and title": ('[the *t*!](u "v") end', " the  t !         end"),
    "reference": ("[a][r] b\n\n[r]: /u", " a     b\n\n       "),
    "undefined reference": ("[a][nowhere]", "[a][nowhere]"),
    "image": ("![alt](u) a", f"{X * 9} a"),
    "address in angle brackets": ("<http://a.b> c", f"{X * 12} c"),
    "bare address": ("see https://a.b/c_d. Then", f"see {X * 15}. Then"),
    "mail address": ("ask a.b@c.org.", f"ask {X * 9}."),
    "escape": ("2 \\* 2", "2  * 2"),
    "entity": ("a&nbsp;b &amp; c", f"a      b {X * 5} c"),
    "inline HTML": ("<b>a</b> H<sub>2</sub>", f"   a     H{X * 5}2      "),
    "heading": ("## A b ##", "   A b   "),
    "heading of hashes": ("# # #", "  #  "),
    "setext heading": ("A b\n---", "A b\n   "),
    "quote across lines": ("> a *b\n> c* d", "  a  b\n  c  d"),
    "lazy quote": ("> a\nb", "  a\nb"),
    "list": ("- a\n  b\n1. c", "  a\n  b\n   c"),
    "task list in a quote": ("> - [ ] a", "    [ ] a"),
    "fence": ("a\n\n```py\nb\n```\nc", "a\n\n     \n \n   \nc"),
    "indented code": ("a\n\n    b", "a\n\n     "),
    "HTML block": ("<div>\na\n</div>\n\nb", "     \n \n      \n\nb"),
    "front matter": ("---\na: b\n---\nc", "   \n    \n   \nc"),
    "table": ("| a | b \\| c |\n|---|---|\n| `x` | *y* |", f"  a   b  | c  \n         \n  {X * 3}    y   "),
    "repeated cells": ("a | a\n--|--\na | a", "a   a\n     \na   a"),
    "line ends of other systems": ("a\r\n> b\r\n", "a\r\n  b\r\n"),
    "characters beyond the first plane": ("😀 *a* 😀", "😀  a  😀"),
    "no character at all": ("", ""),
    "null character": ("a\0b", "a\ufffdb"),
}


@pytest.mark.parametrize(("text", "mask"), MASKS.values(), ids=MASKS.keys())
def test_mask_keeps_prose_where_it_stands(text: str, mask: str) -> None:
    """Everything but prose is blanked, and nothing moves."""
    assert DocumentView(text).mask == mask


SOUP = (
    *("a", "b c", "**", "*", "_", "~~", "`", "``", "[", "](x)", "][r]", "]", "(", ")", "<b>", "<http://a.b>"),
    *("&amp;", "&nbsp;", "\\", "\\|", "|", "\n", "\n\n", "> ", "- ", "1. ", "# ", "## ", " #", "    ", "\t"),
    *(
        "---",
        "|---|---|\n",
        "![",
        "```\n",
        "[r]: /u\n",
        " ",
        "  \n",
        "\r\n",
        "\u3000",
        "\x0b",
        "\u2028",
        "===",
    ),
    *("the the", "http://x.y/z_a", "\0", "😀", "é"),
)


@pytest.mark.parametrize("seed", range(4))
def test_any_text_can_be_viewed(seed: int) -> None:
    """No sequence of markup breaks the view, its mask or the places of its links."""
    source = random.Random(seed)
    for _ in range(250):
        text = "[r]: /u\n\n" + "".join(source.choice(SOUP) for _ in range(source.randint(1, 30)))
        view = DocumentView(text)
        assert len(view.mask) == len(text)
        assert all(seen in (stands, " ", X, "\ufffd") for stands, seen in zip(text, view.mask, strict=True))
        for link in view.links:
            assert text[link.start] in "[!<", text
            assert text[link.end - 1] in ")]>", text


def test_headings_have_the_anchors_of_code_hosts() -> None:
    """Anchors are lower-case, hyphenated, without punctuation, and numbered when repeated."""
    view = DocumentView("# What's *new* in `v2`?\n\n## Setup\n\n## Setup\n\n> # quoted\n\nÜber uns\n===\n")
    assert [heading.slug for heading in view.headings] == ["whats-new-in-v2", "setup", "setup-1", "über-uns"]


def test_a_heading_is_empty_if_its_section_has_no_content() -> None:
    """A deeper heading counts as content, the next section does not."""
    view = DocumentView("# A\n\n## B\n\n## C\n\n- x\n\n# D\n")
    assert [heading.title for heading in view.headings if heading.empty] == ["B", "D"]


def test_lines_and_columns_count_from_one() -> None:
    """A position is what an editor shows, in characters."""
    view = DocumentView("a\r\n😀bc\n")
    assert [view.lines.position(offset) for offset in (0, 3, 4, 7)] == [(1, 1), (2, 1), (2, 2), (3, 1)]
