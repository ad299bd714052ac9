"""The record of an evaluation while it runs: begin, heartbeat, errors.

Each function runs in the caller's transaction. The evaluation's row is locked first, so that of two
workers with the same evaluation one waits for the other's transaction, never for its work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from .errors import PermanentError, message_of
from .models import Comment, DocumentVersion, Evaluation, EvaluationVersion, EvaluatorVersion, Job, Status
from .result import EvaluationResult

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one attempt has to do, read when it began."""

    evaluation_id: int
    job_id: int
    attempt: int
    document_version_id: int
    content: str
    sha256: str
    evaluator_version_id: int
    plugins: tuple[str, ...]
    settings: dict[str, Any]
    time_limit_s: float


def begin(
    session: Session, evaluation_id: int, task_id: str | None, worker: str, now: datetime
) -> Assignment | EvaluationResult:
    """Mark the evaluation as running and count the attempt; or give the result, if there is one already."""
    evaluation = locked(session, evaluation_id)
    if evaluation.status is Status.CANCELLED:
        return EvaluationResult(evaluation_id, Status.CANCELLED, reused=True)
    document = session.scalars(
        select(DocumentVersion)
        .where(DocumentVersion.document_id == evaluation.document_id)
        .order_by(DocumentVersion.version.desc())
        .limit(1)
    ).one_or_none()
    evaluator = session.scalars(
        select(EvaluatorVersion)
        .where(EvaluatorVersion.evaluator_id == evaluation.evaluator_id)
        .order_by(EvaluatorVersion.version.desc())
        .limit(1)
    ).one_or_none()
    if document is None or evaluator is None:
        missing = "document" if document is None else "evaluator"
        raise PermanentError(f"The {missing} of evaluation {evaluation_id} has no version; store one first.")
    if stored := stored_result(session, evaluation_id, document.sha256, evaluator.id):
        evaluation.status = Status.COMPLETED
        return stored
    job = _job(session, evaluation_id, task_id, worker, now)
    evaluation.status = Status.RUNNING
    session.flush()
    return Assignment(
        evaluation_id=evaluation_id,
        job_id=job.id,
        attempt=job.attempts,
        document_version_id=document.id,
        content=document.content,
        sha256=document.sha256,
        evaluator_version_id=evaluator.id,
        plugins=tuple(evaluator.plugins),
        settings=evaluator.settings,
        time_limit_s=evaluator.time_limit_s,
    )


def beat(session: Session, assignment: Assignment, now: datetime) -> None:
    """Record that the job is alive."""
    session.execute(update(Job).where(Job.id == assignment.job_id).values(heartbeat_at=now))


def note_error(session: Session, assignment: Assignment, error: BaseException, now: datetime) -> None:
    """Record why an attempt failed; whether there will be another one is not known here."""
    session.execute(
        update(Job)
        .where(Job.id == assignment.job_id)
        .values(error=message_of(error), error_kind=type(error).__name__, heartbeat_at=now)
    )


def fail(
    session: Session, evaluation_id: int, task_id: str | None, error: BaseException, now: datetime
) -> bool:
    """Mark the evaluation and its job as failed for good. False if it was not open any more."""
    evaluation = session.get(Evaluation, evaluation_id, with_for_update=True)
    if evaluation is None or evaluation.status not in (Status.PENDING, Status.RUNNING):
        return False
    evaluation.status = Status.FAILED
    jobs = update(Job).where(Job.evaluation_id == evaluation_id, Job.status == Status.RUNNING)
    if task_id is not None:
        jobs = jobs.where(Job.task_id == task_id)
    session.execute(
        jobs.values(
            status=Status.FAILED, error=message_of(error), error_kind=type(error).__name__, finished_at=now
        )
    )
    return True


def stored_result(
    session: Session, evaluation_id: int, sha256: str, evaluator_version_id: int
) -> EvaluationResult | None:
    """The result of this evaluator version for this very text, if there is one."""
    version = session.scalars(
        select(EvaluationVersion)
        .join(DocumentVersion, DocumentVersion.id == EvaluationVersion.document_version_id)
        .where(
            EvaluationVersion.evaluation_id == evaluation_id,
            EvaluationVersion.evaluator_version_id == evaluator_version_id,
            DocumentVersion.sha256 == sha256,
        )
    ).one_or_none()
    if version is None:
        return None
    comments = session.scalar(
        select(func.count()).select_from(Comment).where(Comment.evaluation_version_id == version.id)
    )
    return EvaluationResult(
        evaluation_id,
        Status.COMPLETED,
        version.version,
        version.grade,
        comments or 0,
        version.partial,
        reused=True,
    )


def locked(session: Session, evaluation_id: int) -> Evaluation:
    """The evaluation, which nobody else can change before the end of this transaction."""
    evaluation = session.get(Evaluation, evaluation_id, with_for_update=True)
    if evaluation is None:
        raise PermanentError(f"There is no evaluation {evaluation_id}.")
    return evaluation


def _job(session: Session, evaluation_id: int, task_id: str | None, worker: str, now: datetime) -> Job:
    job = None
    if task_id is not None:
        job = session.scalars(select(Job).where(Job.task_id == task_id)).one_or_none()
    if job is None:
        job = Job(evaluation_id=evaluation_id, task_id=task_id, attempts=0, started_at=now)
        session.add(job)
    job.status, job.worker, job.heartbeat_at, job.finished_at = Status.RUNNING, worker, now, None
    job.attempts += 1
    return job
