"""What a check says: comments on places of a document, and a grade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from .document_view import DocumentView

Level = Literal["error", "warning", "nitpick", "info"]


@dataclass(frozen=True, slots=True)
class Highlight:
    """A place in the document: `text[start:end]` is `quoted_text`.

    Without a place, `error` says why there is none; such a comment is kept and marked as invalid.
    """

    quoted_text: str
    start: int | None = None
    end: int | None = None
    error: str | None = None

    @classmethod
    def at(cls, view: DocumentView, start: int, end: int) -> Highlight:
        return cls(view.text[start:end], start, end)

    def problem(self, text: str) -> str | None:
        """Why this place does not hold in the text, or None if it does."""
        if self.start is None or self.end is None:
            return self.error or "The comment names no place in the text."
        if not 0 <= self.start < self.end <= len(text):
            return f"The place {self.start} to {self.end} lies outside of the text ({len(text)} characters)."
        if text[self.start : self.end] != self.quoted_text:
            return f"The text at {self.start} to {self.end} is not the quoted text."
        return None


@dataclass(frozen=True, slots=True)
class Finding:
    """One comment; `header` is its headline, `description` says what is wrong and what to do."""

    level: Level
    header: str
    description: str
    highlight: Highlight
    importance: int = 1


@dataclass(frozen=True, slots=True)
class PluginResult:
    """What a plugin made of a document. `grade` is 0 to 100, or None where there was nothing to grade.

    `cost` is in US dollars, None where it is not known.
    """

    summary: str
    findings: tuple[Finding, ...] = ()
    grade: int | None = None
    analysis: str = ""
    cost: float | None = 0.0


class Plugin(Protocol):
    """One check. `analyze` blocks until it is done and must not touch the database.

    It raises TransientError where another try may help; every other error counts as this plugin's failure.
    """

    name: str

    def analyze(self, view: DocumentView) -> PluginResult: ...
