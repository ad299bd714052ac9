"""What a check has seen: how bad it is, in words, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OK, WARNING, PROBLEM = "ok", "warning", "problem"

#: From the best to the worst; the place is the exit code of the command.
SEVERITIES = (OK, WARNING, PROBLEM)


@dataclass(frozen=True)
class Finding:
    """`warning`: it works, but worse than it could, or not for ever. `problem`: something does not work, or
    messages can be lost. `figures` are what was measured, for programs.
    """

    check: str
    severity: str
    said: str
    remedy: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


def worst(findings: Iterable[Finding]) -> str:
    """The severity of the worst of them."""
    return max((finding.severity for finding in findings), key=SEVERITIES.index, default=OK)
