"""Structure: are the headings in order, and does every part say what it is?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.findings import Finding, Highlight, Level, PluginResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evaluation.document_view import DocumentView

_PENALTY: dict[Level, int] = {"error": 10, "warning": 5, "nitpick": 2, "info": 0}


class Structure:
    """Heading jumps, second titles, repeated and empty headings, images and code without a word on them."""

    name = "structure"

    def analyze(self, view: DocumentView) -> PluginResult:
        findings = (*_headings(view), *_images(view), *_fences(view))
        grade = max(0, 100 - sum(_PENALTY[finding.level] for finding in findings))
        summary = f"{len(view.headings)} headings, {len(findings)} remarks on the structure."
        return PluginResult(summary, findings, grade)


def _headings(view: DocumentView) -> Iterator[Finding]:
    path: list[str] = []
    seen: set[tuple[str, ...]] = set()
    before = titles = 0
    for heading in view.headings:
        place = Highlight.at(view, heading.start, heading.end)
        titles += heading.level == 1
        if before and heading.level > before + 1:
            text = f"Level {heading.level} follows level {before}; use level {before + 1}."
            yield Finding("warning", "Heading level skipped", text, place)
        if heading.level == 1 and titles > 1:
            text = "The document has its title already; make this a heading of level 2."
            yield Finding("warning", "More than one title", text, place)
        # Equal headings in different sections are usual in a change log; siblings are ambiguous.
        path = [*path[: heading.level - 1], *[""] * (heading.level - 1 - len(path)), heading.title.casefold()]
        if tuple(path) in seen:
            text = f"The section has a heading {heading.title!r} already; readers cannot tell them apart."
            yield Finding("nitpick", "Repeated heading", text, place)
        seen.add(tuple(path))
        if heading.empty:
            text = "No text follows before the section ends; write some or drop the heading."
            yield Finding("warning", "Empty section", text, place)
        before = heading.level


def _images(view: DocumentView) -> Iterator[Finding]:
    for link in view.links:
        if link.kind == "image" and not link.text.strip():
            text = "Who cannot see the image learns nothing; describe it between the brackets."
            place = Highlight.at(view, link.start, link.end)
            yield Finding("warning", "Image without a description", text, place)


def _fences(view: DocumentView) -> Iterator[Finding]:
    for fence in view.fences:
        if not fence.language:
            text = "Name the language after the opening marks (`text` if there is none)."
            place = Highlight.at(view, fence.start, fence.end)
            yield Finding("nitpick", "Code block without a language", text, place)
