"""What an evaluation came to, as its caller sees it and as it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .grading import mean_grade

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .findings import PluginResult
    from .models import Status


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The outcome of `process_evaluation`.

    `status` is COMPLETED, or CANCELLED with no result. `partial` says that some plugin failed.
    `reused` says that the result was there already and nothing was stored by this call.
    """

    evaluation_id: int
    status: Status
    version: int | None = None
    grade: int | None = None
    comments: int = 0
    partial: bool = False
    reused: bool = False


@dataclass(frozen=True, slots=True)
class PluginOutcome:
    """How one plugin fared: a result, or the error that it failed with."""

    plugin: str
    seconds: float
    result: PluginResult | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """All outcomes together: the grade, and what is to be read about it."""

    grade: int | None
    partial: bool
    summary: str
    analysis: str
    outcomes: tuple[PluginOutcome, ...]


def verdict(outcomes: Sequence[PluginOutcome], settings: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Weigh the plugins' grades by the evaluator's settings and put their words together."""
    grades = [
        (outcome.result.grade, float(settings.get(outcome.plugin, {}).get("weight", 1)))
        for outcome in outcomes
        if outcome.result is not None and outcome.result.grade is not None
    ]
    grade = mean_grade(grades)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    summary = _summary(grade, outcomes, failed)
    sections = [f"## {outcome.plugin}\n\n{_section(outcome)}" for outcome in outcomes]
    return Verdict(grade, bool(failed), summary, "\n\n".join(sections), tuple(outcomes))


def timetable(outcomes: Sequence[PluginOutcome]) -> str:
    """A Markdown list: each plugin with its time and its summary or error."""
    lines = []
    for outcome in outcomes:
        text = outcome.result.summary if outcome.result else f"Failed: {outcome.error}"
        lines.append(f"- {outcome.plugin}: {outcome.seconds:.3f} s. {text}")
    return "\n".join(lines)


def _summary(grade: int | None, outcomes: Sequence[PluginOutcome], failed: Sequence[PluginOutcome]) -> str:
    findings = [finding for outcome in outcomes if outcome.result for finding in outcome.result.findings]
    counts = [
        f"{count} {level}{'s' if count != 1 else ''}"
        for level in ("error", "warning", "nitpick", "info")
        if (count := sum(finding.level == level for finding in findings))
    ]
    text = f"Grade {grade} of 100" if grade is not None else "No grade"
    text += f": {', '.join(counts)}." if counts else ": nothing to remark."
    if failed:
        text += f" Partial: {', '.join(outcome.plugin for outcome in failed)} failed."
    return text


def _section(outcome: PluginOutcome) -> str:
    if outcome.result is None:
        return f"Failed: {outcome.error}"
    return "\n\n".join(part for part in (outcome.result.summary, outcome.result.analysis) if part)
