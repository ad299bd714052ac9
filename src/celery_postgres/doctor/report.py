"""The findings, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from .finding import OK, PROBLEM, WARNING, worst

if TYPE_CHECKING:
    from .examination import Examination
    from .finding import Finding

_INDENT = " " * 24


def as_text(examination: Examination) -> str:
    """One line for each finding, its remedy below, and the sum; nothing is wrapped, so it can be copied."""
    lines = [f"{examination.database}, schema {examination.schema}", ""]
    for finding in examination.findings:
        lines += _lines(finding)
    counts = {
        severity: sum(finding.severity == severity for finding in examination.findings)
        for severity in (PROBLEM, WARNING)
    }
    lines += ["", ", ".join(f"{severity}s: {count}" for severity, count in counts.items())]
    return "\n".join(lines)


def _lines(finding: Finding) -> list[str]:
    line = f"{finding.severity:<8} {finding.check:<14} {finding.said}"
    if not finding.remedy:
        return [line]
    word = "to see them" if finding.severity == OK else "remedy"
    return [line, f"{_INDENT}{word}: {finding.remedy}"]


def as_json(examination: Examination) -> str:
    """Everything; the URL shows no password, durations are in seconds."""
    content = {
        "database": examination.database,
        "schema": examination.schema,
        "worst": worst(examination.findings),
        "findings": [asdict(finding) for finding in examination.findings],
    }
    return json.dumps(content, indent=2, default=float)
