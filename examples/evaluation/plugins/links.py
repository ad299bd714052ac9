"""Links: does each of them lead somewhere, as far as the document itself can tell?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from markdown_it.common.utils import normalizeReference

from evaluation.findings import Finding, Highlight, PluginResult
from evaluation.grading import share_grade

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evaluation.document_view import DocumentView

# What a reference looks like whose definition is missing: the parser leaves it as text.
_UNRESOLVED = re.compile(r"(?<!\w)\[([^\[\]]+)\]\[([^\[\]]*)\]")


class Links:
    """Empty and malformed targets, fragments without a heading, references without a definition.

    Files are looked up if `base`, the folder of the document, is given. Nothing is fetched.
    """

    name = "links"

    def __init__(self, base: str | None = None) -> None:
        self._base = Path(base) if base else None

    def analyze(self, view: DocumentView) -> PluginResult:
        findings: list[Finding] = []
        for link in view.links:
            if problem := self._problem(link.target, view):
                header, text = problem
                findings.append(Finding("error", header, text, Highlight.at(view, link.start, link.end), 2))
        unresolved = list(_unresolved(view))
        total = len(view.links) + len(unresolved)
        broken = len(findings) + len(unresolved)
        findings += [*unresolved, *_unused(view)]
        summary = f"{total} links, {broken} of them broken." if total else "No links."
        return PluginResult(summary, tuple(findings), share_grade(total - broken, total))

    def _problem(self, target: str, view: DocumentView) -> tuple[str, str] | None:
        if not target.strip("<>"):
            return "Link without a target", "Nothing stands between the parentheses."
        try:
            parts = urlsplit(target)
        except ValueError as error:
            return "Malformed address", f"{target} cannot be read: {error}."
        if parts.scheme in ("http", "https"):
            if not parts.netloc:
                return "Malformed address", f"{target} names no host; write {parts.scheme}://host/path."
            return None
        if parts.scheme or parts.netloc:
            return None
        if not parts.path:
            return self._fragment(unquote(parts.fragment), view)
        path = unquote(parts.path)
        if self._base and not path.startswith("/") and not (self._base / path).exists():
            return "File not found", f"There is no {path} beside the document."
        return None

    def _fragment(self, fragment: str, view: DocumentView) -> tuple[str, str] | None:
        if fragment.lower() in ("", "top") or {fragment, fragment.lower()} & view.anchors:
            return None
        return "Link to a missing heading", f"No heading of this document has the anchor #{fragment}."


def _unresolved(view: DocumentView) -> Iterator[Finding]:
    for block in view.blocks:
        for match in _UNRESOLVED.finditer(view.prose_of(block)):
            label = match[2] or match[1]
            start, end = block.start + match.start(), block.start + match.end()
            text = f"No line defines it; add `[{label}]: address`."
            yield Finding("error", "Undefined reference", text, Highlight.at(view, start, end), 2)


def _unused(view: DocumentView) -> Iterator[Finding]:
    used = {normalizeReference(link.label) for link in view.links if link.label}
    for definition in view.definitions:
        if normalizeReference(definition.label) not in used:
            place = Highlight.at(view, definition.start, definition.end)
            text = "No link refers to this definition; use it or drop it."
            yield Finding("nitpick", "Unused definition", text, place)
