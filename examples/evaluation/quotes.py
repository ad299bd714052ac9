"""Where a quote stands that somebody made from memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .findings import Highlight

if TYPE_CHECKING:
    from .document_view import DocumentView


def locate(view: DocumentView, quote: str) -> Highlight:
    """The first place with these words; without one, the highlight says so and is not valid."""
    start = view.text.find(quote) if quote else -1
    if start >= 0:
        return Highlight.at(view, start, start + len(quote))
    words = quote.split()
    if not words:
        return Highlight(quote, error="Nothing was quoted.")
    # A quote tends to lose the line ends of its source.
    match = re.search(r"\s+".join(re.escape(word) for word in words), view.text)
    if match:
        return Highlight.at(view, match.start(), match.end())
    return Highlight(quote, error="The quoted text does not occur in the document.")
