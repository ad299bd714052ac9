"""The Markdown parser, and where in its source each inline construct stood.

markdown-it gives lines for blocks and no positions at all inside a block.
Each inline rule is therefore wrapped: what it consumed is recorded as a `Piece` in the token's `meta`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt, rules_inline
from mdit_py_plugins.front_matter import front_matter_plugin

if TYPE_CHECKING:
    from collections.abc import Callable

    from markdown_it.rules_core import StateCore
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

    Rule = Callable[[StateInline, bool], bool]

RULES: dict[str, Rule] = {
    "newline": rules_inline.newline,
    "escape": rules_inline.escape,
    "backticks": rules_inline.backtick,
    "strikethrough": rules_inline.strikethrough.tokenize,
    "emphasis": rules_inline.emphasis.tokenize,
    "link": rules_inline.link,
    "image": rules_inline.image,
    "autolink": rules_inline.autolink,
    "html_inline": rules_inline.html_inline,
    "entity": rules_inline.entity,
}


@dataclass(frozen=True, slots=True)
class Piece:
    """What one inline rule consumed: `start` to `end` in the content of its block."""

    rule: str
    start: int
    end: int
    # Of a link: where its closing bracket stands. Otherwise -1.
    label_end: int
    # What the rule emitted, with the width each token had before pairs were matched.
    tokens: tuple[Token, ...]
    widths: tuple[int, ...]


def _located(name: str, rule: Rule) -> Rule:
    def run(state: StateInline, silent: bool) -> bool:
        # The text of an image is parsed in a state of its own, whose positions mean nothing here.
        if silent or state.tokens is not state.env.get("located"):
            return rule(state, silent)
        start, emitted, label_end = state.pos, len(state.tokens), -1
        if name == "link" and state.src[start] == "[":
            label_end = state.md.helpers.parseLinkLabel(state, start, True)
        if not rule(state, silent):
            return False
        tokens = tuple(state.tokens[emitted:])
        widths = tuple(len(token.content) for token in tokens)
        state.env["pieces"].append(Piece(name, start, state.pos, label_end, tokens, widths))
        return True

    return run


def _parse_inline(state: StateCore) -> None:
    for token in state.tokens:
        if token.type != "inline":
            continue
        token.children = []
        token.meta = {"pieces": []}
        state.env["located"], state.env["pieces"] = token.children, token.meta["pieces"]
        state.md.inline.parse(token.content, state.md, state.env, token.children)


@lru_cache(maxsize=1)
def parser() -> MarkdownIt:
    """CommonMark with tables, strikethrough and front matter."""
    md = MarkdownIt("commonmark", {"store_labels": True}).enable(["table", "strikethrough"])
    md.use(front_matter_plugin)
    for name, rule in RULES.items():
        md.inline.ruler.at(name, _located(name, rule))
    # These two join an unmatched `*` with the text around it: which `*` were matched would be lost.
    md.inline.ruler2.disable("fragments_join")
    md.core.ruler.disable("text_join")
    md.core.ruler.at("inline", _parse_inline)
    return md
