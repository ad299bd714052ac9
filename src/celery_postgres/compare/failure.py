"""What goes wrong with one contender, and never ends the comparison of the others."""

from __future__ import annotations


class Failure(Exception):
    """A contender takes no part, or no longer. The text says why, and ends with the remedy."""


def worded(error: BaseException) -> str:
    """The text of somebody else's exception, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
