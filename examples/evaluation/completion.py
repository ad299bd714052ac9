"""The last transaction of an evaluation: its result with everything that belongs to it, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from .models import Comment, EvaluationVersion, Job, PluginRun, Status
from .records import locked, stored_result
from .result import EvaluationResult

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from .findings import Finding
    from .records import Assignment
    from .result import PluginOutcome, Verdict

_PREFIX_LENGTH = 32


def complete(
    session: Session, assignment: Assignment, verdict: Verdict, log: str, now: datetime
) -> EvaluationResult:
    """Store the result with all that belongs to it, unless another worker did or somebody cancelled."""
    evaluation = locked(session, assignment.evaluation_id)
    job = session.get_one(Job, assignment.job_id)
    job.finished_at = job.heartbeat_at = now
    job.log, job.error, job.error_kind = log, None, None
    if evaluation.status is Status.CANCELLED:
        job.status = Status.CANCELLED
        return EvaluationResult(evaluation.id, Status.CANCELLED)
    job.status = evaluation.status = Status.COMPLETED
    if stored := stored_result(session, evaluation.id, assignment.sha256, assignment.evaluator_version_id):
        job.log = (
            f"{log}\n\nAnother worker stored version {stored.version} meanwhile; this result was dropped."
        )
        return stored
    version = _store_version(session, assignment, verdict)
    session.add_all(_plugin_run(job.id, outcome) for outcome in verdict.outcomes)
    comments = [
        _comment(version.id, outcome.plugin, finding, assignment.content)
        for outcome in verdict.outcomes
        for finding in (outcome.result.findings if outcome.result else ())
    ]
    session.add_all(comments)
    return EvaluationResult(
        evaluation.id, Status.COMPLETED, version.version, verdict.grade, len(comments), verdict.partial
    )


def _store_version(session: Session, assignment: Assignment, verdict: Verdict) -> EvaluationVersion:
    # Safe from others who count at the same time: the evaluation is locked.
    last = session.scalar(
        select(func.max(EvaluationVersion.version)).where(
            EvaluationVersion.evaluation_id == assignment.evaluation_id
        )
    )
    version = EvaluationVersion(
        evaluation_id=assignment.evaluation_id,
        version=(last or 0) + 1,
        document_version_id=assignment.document_version_id,
        evaluator_version_id=assignment.evaluator_version_id,
        job_id=assignment.job_id,
        grade=verdict.grade,
        partial=verdict.partial,
        summary=verdict.summary,
        analysis=verdict.analysis,
    )
    session.add(version)
    session.flush()
    return version


def _plugin_run(job_id: int, outcome: PluginOutcome) -> PluginRun:
    result = outcome.result
    return PluginRun(
        job_id=job_id,
        plugin=outcome.plugin,
        seconds=outcome.seconds,
        cost=result.cost if result else 0.0,
        comments=len(result.findings) if result else 0,
        grade=result.grade if result else None,
        summary=result.summary if result else "",
        error=outcome.error,
    )


def _comment(version_id: int, source: str, finding: Finding, content: str) -> Comment:
    place = finding.highlight
    problem = place.problem(content)
    before = (
        content[max(0, place.start - _PREFIX_LENGTH) : place.start] if place.start and not problem else ""
    )
    return Comment(
        evaluation_version_id=version_id,
        source=source,
        level=finding.level,
        header=finding.header,
        description=finding.description,
        importance=finding.importance,
        start_offset=place.start,
        end_offset=place.end,
        quoted_text=place.quoted_text,
        prefix=before,
        is_valid=problem is None,
        error=problem,
    )
