"""What a check found: passed with figures, failed with a remedy, or not run for a reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PASS, FAIL, SKIP = "PASS", "FAIL", "SKIP"


@dataclass(frozen=True)
class Finding:
    """What a check that passed has seen; `figures` are what it measured, for programs."""

    said: str
    figures: Mapping[str, Any] = field(default_factory=dict)


class Fault(Exception):
    """A check failed. `said` tells what was seen, `remedy` what to do."""

    def __init__(self, said: str, remedy: str = "") -> None:
        super().__init__(said)
        self.said = said
        self.remedy = remedy


class NotRun(Exception):
    """A check does not apply here; the text tells why, and what would let it run."""


@dataclass(frozen=True)
class Outcome:
    """One line of the report."""

    name: str
    verdict: str
    seconds: float
    said: str
    remedy: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    log: Path | None = None
    """Of a check that failed: what the workers said while it ran."""
