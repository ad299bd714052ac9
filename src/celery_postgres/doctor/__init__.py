"""Looks at a database that is in use, and explains what is wrong with it; changes nothing.

`verify` tries a database out with workers of its own; this one only looks, at what the application's own
workers and the server show.
"""

from . import report
from .examination import Examination, examine, nowhere
from .finding import OK, PROBLEM, SEVERITIES, WARNING, Finding, worst

__all__ = [
    "OK",
    "PROBLEM",
    "SEVERITIES",
    "WARNING",
    "Examination",
    "Finding",
    "examine",
    "nowhere",
    "report",
    "worst",
]
